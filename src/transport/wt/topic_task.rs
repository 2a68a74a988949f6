//! The sessions of one topic, and the loop that sends them its rounds.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future, future::BoxFuture, stream::FuturesUnordered};
use prometheus_client::metrics::counter::Counter;
use tokio::{sync::mpsc::UnboundedReceiver, task::yield_now};
use tokio_util::task::TaskTracker;

use super::{
    pacer::Pacer,
    session::{DatagramOutcome, Session},
    wire::Datagram,
};
use crate::{
    ops::{
        shutdown::Shutdown,
        telemetry::metrics::{ByTransport, Metrics, Transport},
    },
    stream::{
        frame::Frame,
        hub::{Delivery, Subscription},
    },
    transport::{close::CloseReason, heartbeats},
};

/// Sessions walked before others get a turn: the first have their packets sent while the last are
/// still being walked.
const STRIDE: usize = 64;
/// Rounds that a session is given at once: less than half of what its buffer holds. Of 2,000 rounds
/// in one statement 30 % arrived over loopback when all were given at once.
const PART: usize = 100;

/// A session on its way to its room, with the subscription that its opening began.
pub(super) type NewSession = (Session, Subscription);

/// Why a room is left.
#[derive(Debug)]
pub(super) enum RunEnd {
    /// The last session has gone. Somebody may be at the door all the same.
    Empty,
    /// Nobody is served here any longer: all are to be told this.
    Ended(CloseReason),
}

/// A session in the room.
#[derive(Debug)]
struct Member {
    session: Session,
    /// The subscription it came with, until the room's own can take its place.
    own: Option<Subscription>,
}

/// Rounds that wait for their streams: whose, and whether the stream took it.
type Late = FuturesUnordered<BoxFuture<'static, (usize, bool)>>;

/// One topic's sessions.
#[derive(Debug)]
pub(super) struct TopicTask {
    /// What all of them get.
    subscription: Subscription,
    new_sessions: UnboundedReceiver<NewSession>,
    members: HashMap<usize, Member>,
    /// Connections, to be told when one is over.
    connections: FuturesUnordered<BoxFuture<'static, (usize, CloseReason)>>,
    late: Late,
    written: Counter,
    /// Who is shown out, so that nobody waits for them here.
    tasks: TaskTracker,
}

impl TopicTask {
    pub(super) fn new(
        subscription: Subscription,
        new_sessions: UnboundedReceiver<NewSession>,
        metrics: &Metrics,
        tasks: TaskTracker,
    ) -> Self {
        let label = ByTransport { transport: Transport::webtransport };
        Self {
            subscription,
            new_sessions,
            members: HashMap::new(),
            connections: FuturesUnordered::new(),
            late: Late::new(),
            written: metrics.rounds_written_total.get_or_create(&label).clone(),
            tasks,
        }
    }

    /// Serves until the last session has left or a stop is asked for.
    pub(super) async fn run(&mut self, heartbeat: Duration, shutdown: &Shutdown) -> RunEnd {
        let mut heartbeats = heartbeats(heartbeat);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return RunEnd::Ended(CloseReason::ShuttingDown),
                Some((id, reason)) = self.connections.next() => self.leave(id, reason),
                Some(new_session) = self.new_sessions.recv() => self.welcome(new_session),
                _ = heartbeats.tick() => self.count_dropped(),
                Some((id, written)) = self.late.next() => self.late_round_done(id, written),
                delivery = self.subscription.next() => match delivery {
                    Delivery::Rounds(frames) => self.deliver(&frames, shutdown).await,
                    Delivery::TooSlow => return RunEnd::Ended(CloseReason::TooSlow),
                    Delivery::Closed => return RunEnd::Ended(CloseReason::ShuttingDown),
                },
            }
            if self.members.is_empty() {
                return RunEnd::Empty;
            }
        }
    }

    /// Whether nobody is at the door.
    pub(super) fn has_no_new_sessions(&self) -> bool {
        self.new_sessions.is_empty()
    }

    fn welcome(&mut self, (session, own): NewSession) {
        self.connections.push(session.closed());
        let id = session.id();
        let mut member = Member { session, own: Some(own) };
        match member.catch_up(&self.subscription, &self.late) {
            Ok(rounds) => {
                self.written.inc_by(rounds);
                self.members.insert(id, member);
            }
            Err(reason) => self.close_in_background(member.session, reason),
        }
    }

    /// Ends a session in a task of its own, so that the others need not wait for it.
    fn close_in_background(&self, session: Session, reason: CloseReason) {
        self.tasks.spawn(session.close(reason));
    }

    fn leave(&mut self, id: usize, reason: CloseReason) {
        if let Some(member) = self.members.remove(&id) {
            member.session.note_closed(reason);
        }
    }

    fn count_dropped(&mut self) {
        self.members.values_mut().for_each(|member| member.session.count_dropped());
    }

    fn late_round_done(&mut self, id: usize, written: bool) {
        self.written.inc_by(u64::from(written));
        if let Some(member) = self.members.get_mut(&id) {
            member.session.late_round_done();
        }
    }

    /// Sends rounds to everyone: the same bytes to each. A stop ends it: who has been told `bye`
    /// resumes after the last round that came.
    async fn deliver(&mut self, frames: &[Frame], shutdown: &Shutdown) {
        let merged = self.catch_up_members().await;
        let mut pacer = Pacer::default();
        for (part, frames) in frames.chunks(PART).enumerate() {
            if part > 0 {
                tokio::select! {
                    biased;
                    () = shutdown.requested() => return,
                    () = pacer.wait(|| sessions_with_room(&self.members)) => {}
                }
            }
            let rounds: Vec<_> = frames.iter().map(Datagram::from).collect();
            for (walked, (id, member)) in self.members.iter_mut().enumerate() {
                if walked % STRIDE == STRIDE - 1 {
                    yield_now().await;
                }
                if member.own.is_none() && !merged.contains(id) {
                    self.written.inc_by(member.send(&rounds, &self.late));
                }
            }
        }
    }

    /// Sends those with a subscription of their own what that holds. Returns who is one of all from
    /// now on, and has what the room is about to send.
    async fn catch_up_members(&mut self) -> HashSet<usize> {
        let (mut merged, mut too_slow) = (HashSet::new(), Vec::new());
        let own = self.members.iter_mut().filter(|(_, member)| member.own.is_some());
        for (walked, (id, member)) in own.enumerate() {
            if walked % STRIDE == STRIDE - 1 {
                yield_now().await;
            }
            match member.catch_up(&self.subscription, &self.late) {
                Ok(rounds) => drop(self.written.inc_by(rounds)),
                Err(reason) => too_slow.push((*id, reason)),
            }
            if member.own.is_none() {
                merged.insert(*id);
            }
        }
        for (id, reason) in too_slow {
            if let Some(member) = self.members.remove(&id) {
                self.close_in_background(member.session, reason);
            }
        }
        merged
    }

    /// Ends all sessions, also those that were still on their way in.
    pub(super) async fn close(mut self, reason: CloseReason) {
        self.new_sessions.close();
        let mut sessions: Vec<_> =
            self.members.into_values().map(|member| member.session).collect();
        while let Ok((session, _)) = self.new_sessions.try_recv() {
            sessions.push(session);
        }
        future::join_all(sessions.into_iter().map(|session| session.close(reason))).await;
    }
}

/// Each session, and whether it has room for another part.
fn sessions_with_room(members: &HashMap<usize, Member>) -> impl Iterator<Item = (usize, bool)> {
    members.iter().map(|(id, member)| (*id, member.session.has_room()))
}

impl Member {
    /// Hands rounds to the session; how many it took at once.
    fn send(&mut self, rounds: &[Datagram], late: &Late) -> u64 {
        let id = self.session.id();
        let mut sent = 0;
        for round in rounds {
            match self.session.send(round) {
                DatagramOutcome::Done => sent += 1,
                DatagramOutcome::Late(write) => {
                    late.push(write.map(move |written| (id, written)).boxed())
                }
                DatagramOutcome::Gone | DatagramOutcome::Dropped => {}
            }
        }
        sent
    }

    /// Sends what waits in the session's own subscription, and gives that up where the room's has
    /// taken the same rounds. Whatever reaches the one reaches the other, so the room, which is
    /// woken by its own, looks here no later than it has to.
    fn catch_up(&mut self, task: &Subscription, late: &Late) -> Result<u64, CloseReason> {
        let Some(mut own) = self.own.take() else { return Ok(0) };
        let mut sent = 0;
        while let Some(delivery) = own.try_next() {
            match delivery {
                Delivery::Rounds(frames) => {
                    let rounds: Vec<_> = frames.iter().map(Datagram::from).collect();
                    sent += self.send(&rounds, late);
                }
                Delivery::TooSlow => return Err(CloseReason::TooSlow),
                Delivery::Closed => break,
            }
        }
        if !own.stands_where(task) {
            self.own = Some(own);
        }
        Ok(sent)
    }
}
