//! From a connection's first packet to its seat in a room: handshake, decision, opening.

use std::{future::Future, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::task::TaskTracker;
use wtransport::endpoint::{IncomingSession, SessionRequest};

use super::{
    admission::{Admission, ConnectRequest, Refusal},
    session::{Session, StreamFailed},
    topic_tasks::TopicTasks,
    wire::{self, H3_NO_ERROR},
};
use crate::{
    ops::shutdown::Shutdown,
    stream::{
        frame::Frame,
        hub::{Delivery, Opening, Subscription},
    },
    transport::{GrantedSession, close::CloseReason},
};

/// Handshakes under way at once; one more is refused. Each holds some 50 KB.
const HANDSHAKES_MAX: usize = 1024;
/// With more than this, a client must first show that its address is its own, which costs it a
/// round trip and us no memory: a flood with forged senders gets no further.
const HANDSHAKES_UNPROVEN: usize = 128;
/// From the first packet to the request; afterwards to the client's end of a refusal.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a refused client may take to leave by itself.
const REFUSED: Duration = Duration::from_secs(1);

/// Receives connections.
#[derive(Debug)]
pub(super) struct SessionSetup<G> {
    admission: G,
    topic_tasks: TopicTasks,
    /// A peer that takes nothing for so long is too slow.
    patience: Duration,
    handshakes: Arc<Semaphore>,
    shutdown: Shutdown,
    tasks: TaskTracker,
}

impl<G: Admission> SessionSetup<G> {
    pub(super) fn new(
        admission: G,
        topic_tasks: TopicTasks,
        heartbeat: Duration,
        shutdown: Shutdown,
        tasks: TaskTracker,
    ) -> Self {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        Self { admission, topic_tasks, patience: heartbeat * 2, handshakes, shutdown, tasks }
    }

    /// Takes a connection in, unless there are too many handshakes under way.
    pub(super) fn receive(self: &Arc<Self>, incoming: IncomingSession) {
        let proven = incoming.remote_address_validated();
        let address = incoming.remote_address().ip();
        let pending = HANDSHAKES_MAX - self.handshakes.available_permits();
        if pending >= HANDSHAKES_UNPROVEN && !proven {
            return incoming.retry();
        }
        let Ok(permit) = self.handshakes.clone().try_acquire_owned() else {
            return incoming.refuse();
        };
        let setup = Arc::clone(self);
        self.tasks.spawn(async move { setup.set_up(incoming, address, permit).await });
    }

    async fn set_up(
        &self,
        incoming: IncomingSession,
        address: IpAddr,
        permit: OwnedSemaphorePermit,
    ) {
        let request = tokio::select! {
            () = self.shutdown.requested() => return,
            request = timeout(HANDSHAKE, incoming) => request,
        };
        // What goes wrong before the request is the client's affair.
        let Ok(Ok(request)) = request else { return };
        let path = request.path().to_owned();
        let origin = request.origin().map(str::to_owned);
        let admitted = self.admission.admit(ConnectRequest { path, origin, address }).await;
        match admitted {
            Err(refusal) => drop(timeout(HANDSHAKE, refuse(request, refusal)).await),
            Ok(session) => {
                let Ok(Ok(connection)) = timeout(HANDSHAKE, request.accept()).await else { return };
                drop(permit);
                let GrantedSession { opening, subscription, record } = session;
                self.welcome(Session::new(connection, record), opening, subscription).await;
            }
        }
    }

    /// Sends the opening; whoever has it goes to the room.
    async fn welcome(&self, session: Session, opening: Opening, mut subscription: Subscription) {
        let opened = tokio::select! {
            () = self.shutdown.requested() => Err(CloseReason::ShuttingDown),
            opened = self.open(&session, opening, &mut subscription) => opened,
        };
        match opened {
            Ok(()) => self.topic_tasks.enter((session, subscription)),
            Err(CloseReason::Client) => session.note_closed(CloseReason::Client),
            Err(reason) => session.close(reason).await,
        }
    }

    async fn open(
        &self,
        session: &Session,
        opening: Opening,
        subscription: &mut Subscription,
    ) -> Result<(), CloseReason> {
        let seed = match opening {
            Opening::Seed(seed) => seed,
            Opening::Gap(seed) => {
                self.with_timeout(session.send_acknowledged(wire::GAP)).await?;
                seed
            }
            Opening::Resumed(frames) => return self.replay(session, frames, subscription).await,
        };
        let Some(seed) = seed else { return Ok(()) };
        session.written(1);
        self.with_timeout(session.send_acknowledged(seed.json())).await
    }

    /// All rounds of the replay, and what was finished meanwhile, on one stream. An empty one where
    /// nothing was missed: a client could not tell the next large round from it, take all before that
    /// for known, and lose what its datagrams lost.
    async fn replay(
        &self,
        session: &Session,
        mut frames: Vec<Frame>,
        subscription: &mut Subscription,
    ) -> Result<(), CloseReason> {
        let mut stream = self.with_timeout(session.open_stream(bytes::Bytes::new())).await?;
        while !frames.is_empty() {
            for lines in wire::lines(&frames) {
                self.with_timeout(async { Ok(stream.write_all(&lines).await?) }).await?;
            }
            session.written(frames.len());
            frames = match subscription.try_next() {
                None => Vec::new(),
                Some(Delivery::Rounds(later)) => later,
                Some(Delivery::TooSlow) => return Err(CloseReason::TooSlow),
                Some(Delivery::Closed) => return Err(CloseReason::ShuttingDown),
            };
        }
        self.with_timeout(async {
            stream.finish().await.or_else(|error| super::session::stopped(&error))
        })
        .await
    }

    async fn with_timeout<T>(
        &self,
        step: impl Future<Output = Result<T, StreamFailed>>,
    ) -> Result<T, CloseReason> {
        match timeout(self.patience, step).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(StreamFailed)) => Err(CloseReason::Client),
            Err(_) => Err(CloseReason::TooSlow),
        }
    }
}

/// Answers with the status. The library knows three; any other is a header of its "accepted", and
/// what follows is ended here, where a client that reads its answer does not end it first.
async fn refuse(request: SessionRequest, Refusal(status): Refusal) {
    match status {
        403 => request.forbidden().await,
        404 => request.not_found().await,
        429 => request.too_many_requests().await,
        _ => {
            let status = [(":status", status.to_string())];
            if let Ok(connection) = request.accept_with_headers(status).await {
                let _ = timeout(REFUSED, connection.closed()).await;
                connection.close(H3_NO_ERROR.into(), b"");
            }
        }
    }
}
