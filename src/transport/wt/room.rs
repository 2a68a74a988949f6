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
    pause::Pause,
    peer::{Peer, Sent},
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
    transport::{beats, close::CloseReason},
};

/// Sessions walked before others get a turn: the first have their packets sent while the last are
/// still being walked.
const STRIDE: usize = 64;
/// Rounds that a session is given at once: less than half of what its buffer holds. Of 2,000 rounds
/// in one statement 30 % arrived over loopback when all were given at once.
const PART: usize = 100;

/// A session on its way to its room, with the subscription that its opening began.
pub(super) type Newcomer = (Peer, Subscription);

/// Why a room is left.
#[derive(Debug)]
pub(super) enum Left {
    /// The last session has gone. Somebody may be at the door all the same.
    Empty,
    /// Nobody is served here any longer: all are to be told this.
    Ended(CloseReason),
}

/// A session in the room.
#[derive(Debug)]
struct Seat {
    peer: Peer,
    /// The subscription it came with, until the room's own can take its place.
    own: Option<Subscription>,
}

/// Rounds that wait for their streams: whose, and whether the stream took it.
type Late = FuturesUnordered<BoxFuture<'static, (usize, bool)>>;

/// One topic's sessions.
#[derive(Debug)]
pub(super) struct Room {
    /// What all of them get.
    subscription: Subscription,
    newcomers: UnboundedReceiver<Newcomer>,
    seats: HashMap<usize, Seat>,
    /// Connections, to be told when one is over.
    connections: FuturesUnordered<BoxFuture<'static, (usize, CloseReason)>>,
    late: Late,
    written: Counter,
    /// Who is shown out, so that nobody waits for them here.
    tasks: TaskTracker,
}

impl Room {
    pub(super) fn new(
        subscription: Subscription,
        newcomers: UnboundedReceiver<Newcomer>,
        metrics: &Metrics,
        tasks: TaskTracker,
    ) -> Self {
        let label = ByTransport { transport: Transport::webtransport };
        Self {
            subscription,
            newcomers,
            seats: HashMap::new(),
            connections: FuturesUnordered::new(),
            late: Late::new(),
            written: metrics.rounds_written_total.get_or_create(&label).clone(),
            tasks,
        }
    }

    /// Serves until the last session has left or a stop is asked for.
    pub(super) async fn run(&mut self, heartbeat: Duration, shutdown: &Shutdown) -> Left {
        let mut beats = beats(heartbeat);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return Left::Ended(CloseReason::ShuttingDown),
                Some((id, reason)) = self.connections.next() => self.leave(id, reason),
                Some(newcomer) = self.newcomers.recv() => self.welcome(newcomer),
                _ = beats.tick() => self.look_for_drops(),
                Some((id, written)) = self.late.next() => self.caught_up(id, written),
                delivery = self.subscription.next() => match delivery {
                    Delivery::Rounds(frames) => self.deliver(&frames, shutdown).await,
                    Delivery::TooSlow => return Left::Ended(CloseReason::TooSlow),
                    Delivery::Closed => return Left::Ended(CloseReason::ShuttingDown),
                },
            }
            if self.seats.is_empty() {
                return Left::Empty;
            }
        }
    }

    /// Whether nobody is at the door.
    pub(super) fn nobody_waits(&self) -> bool {
        self.newcomers.is_empty()
    }

    fn welcome(&mut self, (peer, own): Newcomer) {
        self.connections.push(peer.closed());
        let id = peer.id();
        let mut seat = Seat { peer, own: Some(own) };
        match seat.catch_up(&self.subscription, &self.late) {
            Ok(rounds) => {
                self.written.inc_by(rounds);
                self.seats.insert(id, seat);
            }
            Err(reason) => self.see_off(seat.peer, reason),
        }
    }

    /// Ends a session in a task of its own, so that the others need not wait for it.
    fn see_off(&self, peer: Peer, reason: CloseReason) {
        self.tasks.spawn(peer.farewell(reason));
    }

    fn leave(&mut self, id: usize, reason: CloseReason) {
        if let Some(seat) = self.seats.remove(&id) {
            seat.peer.gone(reason);
        }
    }

    fn look_for_drops(&mut self) {
        self.seats.values_mut().for_each(|seat| seat.peer.look_for_drops());
    }

    fn caught_up(&mut self, id: usize, written: bool) {
        self.written.inc_by(u64::from(written));
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.peer.caught_up();
        }
    }

    /// Sends rounds to everyone: the same bytes to each. A stop ends it: who has been told `bye`
    /// resumes after the last round that came.
    async fn deliver(&mut self, frames: &[Frame], shutdown: &Shutdown) {
        let fresh = self.settle().await;
        let mut pause = Pause::default();
        for (part, frames) in frames.chunks(PART).enumerate() {
            if part > 0 {
                tokio::select! {
                    biased;
                    () = shutdown.requested() => return,
                    () = pause.wait(|| roomy(&self.seats)) => {}
                }
            }
            let rounds: Vec<_> = frames.iter().map(Datagram::from).collect();
            for (walked, (id, seat)) in self.seats.iter_mut().enumerate() {
                if walked % STRIDE == STRIDE - 1 {
                    yield_now().await;
                }
                if seat.own.is_none() && !fresh.contains(id) {
                    self.written.inc_by(seat.send(&rounds, &self.late));
                }
            }
        }
    }

    /// Sends those with a subscription of their own what that holds. Returns who is one of all from
    /// now on, and has what the room is about to send.
    async fn settle(&mut self) -> HashSet<usize> {
        let (mut fresh, mut too_slow) = (HashSet::new(), Vec::new());
        let own = self.seats.iter_mut().filter(|(_, seat)| seat.own.is_some());
        for (walked, (id, seat)) in own.enumerate() {
            if walked % STRIDE == STRIDE - 1 {
                yield_now().await;
            }
            match seat.catch_up(&self.subscription, &self.late) {
                Ok(rounds) => drop(self.written.inc_by(rounds)),
                Err(reason) => too_slow.push((*id, reason)),
            }
            if seat.own.is_none() {
                fresh.insert(*id);
            }
        }
        for (id, reason) in too_slow {
            if let Some(seat) = self.seats.remove(&id) {
                self.see_off(seat.peer, reason);
            }
        }
        fresh
    }

    /// Ends all sessions, also those that were still on their way in.
    pub(super) async fn farewell(mut self, reason: CloseReason) {
        self.newcomers.close();
        let mut peers: Vec<_> = self.seats.into_values().map(|seat| seat.peer).collect();
        while let Ok((peer, _)) = self.newcomers.try_recv() {
            peers.push(peer);
        }
        future::join_all(peers.into_iter().map(|peer| peer.farewell(reason))).await;
    }
}

/// Each session, and whether it has room for another part.
fn roomy(seats: &HashMap<usize, Seat>) -> impl Iterator<Item = (usize, bool)> {
    seats.iter().map(|(id, seat)| (*id, seat.peer.has_room()))
}

impl Seat {
    /// Hands rounds to the session; how many it took at once.
    fn send(&mut self, rounds: &[Datagram], late: &Late) -> u64 {
        let id = self.peer.id();
        let mut sent = 0;
        for round in rounds {
            match self.peer.send(round) {
                Sent::Done => sent += 1,
                Sent::Late(write) => late.push(write.map(move |written| (id, written)).boxed()),
                Sent::Gone | Sent::Dropped => {}
            }
        }
        sent
    }

    /// Sends what waits in the session's own subscription, and gives that up where the room's has
    /// taken the same rounds. Whatever reaches the one reaches the other, so the room, which is
    /// woken by its own, looks here no later than it has to.
    fn catch_up(&mut self, room: &Subscription, late: &Late) -> Result<u64, CloseReason> {
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
        if !own.stands_where(room) {
            self.own = Some(own);
        }
        Ok(sent)
    }
}
