//! A topic task: the sessions of one topic, and the loop that sends them its rounds.

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
    session::{RoundOutcome, Session, StreamedRound},
    session_leases::SessionLeases,
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

/// Sessions handled before the task yields: the packets of the first leave while the task handles
/// the last.
const STRIDE: usize = 64;
/// Rounds sent to a session at once: less than half of its buffer. Of 2,000 rounds sent at once
/// over loopback, 30 % arrived.
const PART: usize = 100;

/// A session that joins, with the subscription of its opening.
pub(super) type NewSession = (Session, Subscription);

/// Why `run` returned.
#[derive(Debug)]
pub(super) enum RunEnd {
    /// The last session has left. A new one may wait already.
    Empty,
    /// All sessions must be closed with this reason.
    Ended(CloseReason),
}

/// A session of the task.
#[derive(Debug)]
struct Member {
    session: Session,
    /// The subscription of its opening, until the task's subscription is at the same position.
    own: Option<Subscription>,
}

/// What happens on the stream of a round.
#[derive(Debug)]
enum StreamEvent {
    /// The stream of this session took the round, or failed.
    Written(usize, Option<StreamedRound>),
    /// The round needs no memory any more.
    Acknowledged,
}

/// Rounds that wait for their streams, or for their acknowledgment.
#[derive(Debug, Default)]
struct Streams(FuturesUnordered<BoxFuture<'static, StreamEvent>>);

impl Streams {
    fn wait_for_write(&self, session: usize, write: BoxFuture<'static, Option<StreamedRound>>) {
        self.0.push(write.map(move |written| StreamEvent::Written(session, written)).boxed());
    }

    fn wait_for_acknowledgment(&self, round: StreamedRound) {
        self.0.push(round.acknowledged().map(|()| StreamEvent::Acknowledged).boxed());
    }
}

/// The sessions of one topic.
#[derive(Debug)]
pub(super) struct TopicTask {
    /// The rounds for all sessions.
    subscription: Subscription,
    new_sessions: UnboundedReceiver<NewSession>,
    members: HashMap<usize, Member>,
    /// Resolve when a connection ends.
    connections: FuturesUnordered<BoxFuture<'static, (usize, CloseReason)>>,
    streams: Streams,
    leases: SessionLeases,
    written: Counter,
    /// Sessions are closed in tasks of their own, so that the others need not wait.
    tasks: TaskTracker,
}

impl TopicTask {
    pub(super) fn new(
        subscription: Subscription,
        new_sessions: UnboundedReceiver<NewSession>,
        leases: SessionLeases,
        metrics: &Metrics,
        tasks: TaskTracker,
    ) -> Self {
        let label = ByTransport { transport: Transport::webtransport };
        Self {
            subscription,
            new_sessions,
            members: HashMap::new(),
            connections: FuturesUnordered::new(),
            streams: Streams::default(),
            leases,
            written: metrics.rounds_written_total.get_or_create(&label).clone(),
            tasks,
        }
    }

    /// Serves until the last session has left, or all must be closed.
    pub(super) async fn run(&mut self, heartbeat: Duration, shutdown: &Shutdown) -> RunEnd {
        let (mut heartbeats, mut turns) = (heartbeats(heartbeat), SessionLeases::turns(heartbeat));
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return RunEnd::Ended(CloseReason::ShuttingDown),
                Some((id, reason)) = self.connections.next() => self.leave(id, reason),
                Some(new_session) = self.new_sessions.recv() => self.add(new_session),
                _ = heartbeats.tick() => self.count_dropped(),
                _ = turns.tick(), if !self.leases.is_empty() => self.close_lapsed(),
                Some(event) = self.streams.0.next() => self.handle_stream_event(event),
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

    /// Whether no new session waits.
    pub(super) fn has_no_new_sessions(&self) -> bool {
        self.new_sessions.is_empty()
    }

    fn add(&mut self, (session, own): NewSession) {
        self.connections.push(session.closed());
        let id = session.id();
        let mut member = Member { session, own: Some(own) };
        match member.catch_up(&self.subscription, &self.streams) {
            Ok(rounds) => {
                self.written.inc_by(rounds);
                self.leases.add(id, member.session.lease());
                self.members.insert(id, member);
            }
            Err(reason) => self.close_in_background(member.session, reason),
        }
    }

    /// Closes a session in its own task.
    fn close_in_background(&self, session: Session, reason: CloseReason) {
        self.tasks.spawn(session.close(reason));
    }

    /// Closes the sessions whose token has expired, or whose key was withdrawn.
    fn close_lapsed(&mut self) {
        for (id, lapse) in self.leases.next_turn() {
            self.leases.remove(id);
            if let Some(member) = self.members.remove(&id) {
                self.close_in_background(member.session, lapse.into());
            }
        }
    }

    fn leave(&mut self, id: usize, reason: CloseReason) {
        self.leases.remove(id);
        if let Some(member) = self.members.remove(&id) {
            member.session.note_closed(reason);
        }
    }

    fn count_dropped(&mut self) {
        self.members.values_mut().for_each(|member| member.session.count_dropped());
    }

    fn handle_stream_event(&mut self, event: StreamEvent) {
        let StreamEvent::Written(id, round) = event else { return };
        if let Some(round) = round {
            self.written.inc();
            self.streams.wait_for_acknowledgment(round);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.session.late_round_done();
        }
    }

    /// Sends rounds to all sessions. A shutdown interrupts it: after `bye`, clients resume after
    /// the last round that arrived.
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
            for (index, (id, member)) in self.members.iter_mut().enumerate() {
                if index % STRIDE == STRIDE - 1 {
                    yield_now().await;
                }
                if member.own.is_none() && !merged.contains(id) {
                    self.written.inc_by(member.send(&rounds, &self.streams));
                }
            }
        }
    }

    /// Sends the rounds of their own subscriptions to the sessions that have one. Returns the
    /// sessions that dropped it now: they have the rounds that the task is about to send.
    async fn catch_up_members(&mut self) -> HashSet<usize> {
        let (mut merged, mut too_slow) = (HashSet::new(), Vec::new());
        let own = self.members.iter_mut().filter(|(_, member)| member.own.is_some());
        for (index, (id, member)) in own.enumerate() {
            if index % STRIDE == STRIDE - 1 {
                yield_now().await;
            }
            match member.catch_up(&self.subscription, &self.streams) {
                Ok(rounds) => drop(self.written.inc_by(rounds)),
                Err(reason) => too_slow.push((*id, reason)),
            }
            if member.own.is_none() {
                merged.insert(*id);
            }
        }
        for (id, reason) in too_slow {
            self.leases.remove(id);
            if let Some(member) = self.members.remove(&id) {
                self.close_in_background(member.session, reason);
            }
        }
        merged
    }

    /// Closes all sessions, including new ones that wait.
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

/// The sessions, and whether each has room for another part.
fn sessions_with_room(members: &HashMap<usize, Member>) -> impl Iterator<Item = (usize, bool)> {
    members.iter().map(|(id, member)| (*id, member.session.has_room()))
}

impl Member {
    /// Sends rounds to the session. Returns how many were sent at once.
    fn send(&mut self, rounds: &[Datagram], streams: &Streams) -> u64 {
        let id = self.session.id();
        let mut sent = 0;
        for round in rounds {
            match self.session.send(round) {
                RoundOutcome::Sent => sent += 1,
                RoundOutcome::Streamed(round) => {
                    sent += 1;
                    streams.wait_for_acknowledgment(round);
                }
                RoundOutcome::Late(write) => streams.wait_for_write(id, write),
                RoundOutcome::Closed | RoundOutcome::Dropped => {}
            }
        }
        sent
    }

    /// Sends the rounds of the session's own subscription, and drops it once the task's
    /// subscription has taken the same rounds. Both get the same rounds, so the task's subscription
    /// wakes in time for this one.
    fn catch_up(&mut self, task: &Subscription, streams: &Streams) -> Result<u64, CloseReason> {
        let Some(mut own) = self.own.take() else { return Ok(0) };
        let mut sent = 0;
        while let Some(delivery) = own.try_next() {
            match delivery {
                Delivery::Rounds(frames) => {
                    let rounds: Vec<_> = frames.iter().map(Datagram::from).collect();
                    sent += self.send(&rounds, streams);
                }
                Delivery::TooSlow => return Err(CloseReason::TooSlow),
                Delivery::Closed => break,
            }
        }
        if !own.is_interchangeable_with(task) {
            self.own = Some(own);
        }
        Ok(sent)
    }
}
