//! Session setup: handshake, decision by `http`, opening, and the hand-over to the topic task.

use std::{
    future::Future,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use wtransport::{
    SendStream,
    endpoint::{IncomingSession, SessionRequest},
};

use super::{
    admission::{Admission, ConnectRequest, SessionRefusal},
    session::{Session, StreamFailed},
    topic_tasks::TopicTasks,
    wire::{self, H3_NO_ERROR},
};
use crate::{
    access::{Lapse, Lease},
    ops::{
        connection_limiter::{ConnectionLimiter, Kind, PendingConnection},
        shutdown::Shutdown,
        telemetry::metrics::{ByPending, ByTransport, Metrics, PendingState, Transport},
    },
    stream::{
        frame::Frame,
        hub::{Delivery, Opening, Subscription},
        replay::StoredReader,
    },
    transport::{GrantedSession, close::CloseReason, read_pace::rate_min, replay_end},
};

/// The most connections that ended for this server and not for the library.
const GIVEN_UP_MAX: usize = 1024;
/// Above this number, a client must validate its address first (RFC 9000 section 8.1). That costs
/// it a round trip and the server no memory, and stops a flood from false addresses.
const HANDSHAKES_UNPROVEN: usize = 128;
/// The timeout from the first packet to the request, and for each response.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a refused client may take to close the connection.
const REFUSED: Duration = Duration::from_secs(1);

/// Sets up sessions.
#[derive(Debug)]
pub(super) struct SessionSetup<G> {
    admission: G,
    limiter: ConnectionLimiter,
    sessions: Gauge,
    given_up: Gauge,
    topic_tasks: TopicTasks,
    /// A peer that takes nothing for this long is too slow.
    patience: Duration,
    shutdown: Shutdown,
    tasks: TaskTracker,
}

impl<G: Admission> SessionSetup<G> {
    pub(super) fn new(
        admission: G,
        limiter: ConnectionLimiter,
        metrics: &Metrics,
        topic_tasks: TopicTasks,
        heartbeat: Duration,
        shutdown: Shutdown,
        tasks: TaskTracker,
    ) -> Self {
        let label = ByTransport { transport: Transport::webtransport };
        let sessions = metrics.subscribers.get_or_create_owned(&label);
        let label = ByPending { state: PendingState::given_up };
        let given_up = metrics.pending_connections.get_or_create_owned(&label);
        let patience = heartbeat * 2;
        Self { admission, limiter, sessions, given_up, topic_tasks, patience, shutdown, tasks }
    }

    /// Whether one more connection fits beside the open ones. The library keeps a connection that
    /// this server gave up as long as its peer leaves a stream header incomplete.
    pub(super) fn has_room(&self, open: usize) -> bool {
        self.given_up(open) <= GIVEN_UP_MAX
    }

    /// How many of the open connections this server gave up. Those that are closing count too.
    fn given_up(&self, open: usize) -> usize {
        let sessions = usize::try_from(self.sessions.get()).unwrap_or_default();
        open.saturating_sub(sessions + self.limiter.pending(Kind::Quic))
    }

    /// Updates the gauge.
    pub(super) fn show_given_up(&self, open: usize) {
        self.given_up.set(self.given_up(open).try_into().unwrap_or(i64::MAX));
    }

    /// Sets up a session in its own task. If there are too many handshakes, the oldest is closed.
    pub(super) fn receive(self: &Arc<Self>, incoming: IncomingSession) {
        let proven = incoming.remote_address_validated();
        let address = incoming.remote_address().ip();
        if self.limiter.pending(Kind::Quic) >= HANDSHAKES_UNPROVEN && !proven {
            return incoming.retry();
        }
        let Some(pending) = self.limiter.connect(Kind::Quic, Some(address)) else {
            return incoming.refuse();
        };
        let setup = Arc::clone(self);
        self.tasks.spawn(async move { setup.set_up(incoming, address, pending).await });
    }

    async fn set_up(&self, incoming: IncomingSession, address: IpAddr, pending: PendingConnection) {
        let request = tokio::select! {
            () = self.shutdown.requested() => return,
            () = pending.closed() => return,
            request = timeout(HANDSHAKE, incoming) => request,
        };
        // Errors before the request are not logged: clients cause them.
        let Ok(Ok(request)) = request else { return };
        pending.begin_request();
        let path = request.path().to_owned();
        let header = |name: &str| request.headers().get(name).cloned();
        let (origin, authorization) = (header("origin"), header("authorization"));
        let cookie = header("cookie");
        let connect = ConnectRequest { path, origin, authorization, cookie, address };
        let admitted = self.admission.admit(connect).await;
        match admitted {
            Err(refusal) => drop(timeout(HANDSHAKE, refuse(request, refusal)).await),
            Ok(granted) => {
                let Ok(Ok(connection)) = timeout(HANDSHAKE, request.accept()).await else { return };
                drop(pending);
                let GrantedSession { opening, stored, subscription, record, lease, .. } = granted;
                let session = Session::new(connection, record, lease, granted.memory);
                self.open_and_hand_over(session, opening, stored, subscription).await;
                drop(granted.opening_memory);
            }
        }
    }

    /// Sends the opening, and passes the session to its topic task.
    async fn open_and_hand_over(
        &self,
        session: Session,
        opening: Opening,
        stored: Option<StoredReader>,
        mut subscription: Subscription,
    ) {
        let opened = tokio::select! {
            () = self.shutdown.requested() => Err(CloseReason::ShuttingDown),
            lapse = self.lapsed(session.lease()) => Err(lapse.into()),
            opened = self.send_opening(&session, opening, stored, &mut subscription) => opened,
        };
        match opened {
            Ok(()) => self.topic_tasks.add((session, subscription)),
            Err(CloseReason::Client) => session.note_closed(CloseReason::Client),
            Err(reason) => session.close(reason).await,
        }
    }

    /// Resolves at most one heartbeat after the lease has ended. A long replay may outlast it.
    async fn lapsed(&self, lease: Lease) -> Lapse {
        loop {
            sleep(self.patience / 2).await;
            if let Some(lapse) = self.topic_tasks.keys().lapse(lease) {
                return lapse;
            }
        }
    }

    async fn send_opening(
        &self,
        session: &Session,
        opening: Opening,
        stored: Option<StoredReader>,
        subscription: &mut Subscription,
    ) -> Result<(), CloseReason> {
        let seeds = match opening {
            Opening::Seed(seeds) => seeds,
            Opening::Gap(seeds) => {
                self.with_timeout(session.send_acknowledged(wire::GAP)).await?;
                seeds
            }
            Opening::Resumed(resumed) => {
                return self.replay(session, stored, resumed.frames, subscription).await;
            }
        };
        if stored.is_some() {
            return self.replay(session, stored, Vec::new(), subscription).await;
        }
        session.written(seeds.frames.len());
        match &seeds.frames[..] {
            [] => Ok(()),
            [seed] => self.with_timeout(session.send_acknowledged(seed.json())).await,
            seeds => {
                let mut stream = self.with_timeout(session.open_stream(Bytes::new())).await?;
                self.write_lines(&mut stream, seeds).await?;
                self.finish(stream).await
            }
        }
    }

    async fn write_lines(
        &self,
        stream: &mut SendStream,
        frames: &[Frame],
    ) -> Result<(), CloseReason> {
        for lines in wire::lines(frames) {
            self.with_timeout(async { Ok(stream.write_all(&lines).await?) }).await?;
        }
        Ok(())
    }

    /// Sends the rounds that only the database has, page by page as the client takes them.
    async fn write_stored(
        &self,
        session: &Session,
        stream: &mut SendStream,
        mut stored: StoredReader,
    ) -> Result<(), CloseReason> {
        // Over all pages, without the time that the database takes.
        let (mut bytes, mut writing) = (0, Duration::ZERO);
        while let Some(page) = stored.next().await.map_err(|error| replay_end(&error))? {
            let rate = rate_min(stored.is_memory_scarce());
            let begun = Instant::now();
            bytes += page.frames.iter().map(Frame::json_size).sum::<usize>();
            self.write_lines(stream, &page.frames).await?;
            writing += begun.elapsed();
            let at_rate = Duration::from_secs_f64(bytes as f64 / rate as f64);
            if writing > self.patience + at_rate {
                return Err(CloseReason::TooSlow);
            }
            session.written(page.frames.len());
        }
        Ok(())
    }

    /// Ends the stream, and waits until the client has acknowledged it.
    async fn finish(&self, mut stream: SendStream) -> Result<(), CloseReason> {
        self.with_timeout(async {
            stream.finish().await.or_else(|error| super::session::stopped(&error))
        })
        .await
    }

    /// Sends the replay and the rounds finished meanwhile on one stream, which may be empty.
    /// Without it, a client would take the stream of the next large round for the replay. It would
    /// then resume after that round, and never get the datagrams that were lost before it.
    async fn replay(
        &self,
        session: &Session,
        stored: Option<StoredReader>,
        mut frames: Vec<Frame>,
        subscription: &mut Subscription,
    ) -> Result<(), CloseReason> {
        let mut stream = self.with_timeout(session.open_stream(Bytes::new())).await?;
        if let Some(stored) = stored {
            self.write_stored(session, &mut stream, stored).await?;
        }
        while !frames.is_empty() {
            self.write_lines(&mut stream, &frames).await?;
            session.written(frames.len());
            frames = match subscription.try_next() {
                None => Vec::new(),
                Some(Delivery::Rounds(later)) => later,
                Some(Delivery::TooSlow) => return Err(CloseReason::TooSlow),
                Some(Delivery::Closed) => return Err(CloseReason::ShuttingDown),
            };
        }
        self.finish(stream).await
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

/// Responds with the status and the header fields. The library has methods for three statuses without
/// fields. This function overrides the status of its "accepted" response instead, and closes the
/// connection if the client does not.
async fn refuse(request: SessionRequest, SessionRefusal { status, mut fields }: SessionRefusal) {
    fields.push((":status".to_owned(), status.to_string()));
    if let Ok(connection) = request.accept_with_headers(fields).await {
        let _ = timeout(REFUSED, connection.closed()).await;
        connection.close(H3_NO_ERROR.into(), b"");
    }
}
