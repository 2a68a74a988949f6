//! Where newcomers find the room of their topic, and rooms are opened and closed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_util::task::TaskTracker;

use super::{peer::Peer, room::Room};
use crate::{hub::Subscription, shutdown::Shutdown, telemetry::metrics::Metrics, topic::Topic};

/// A session on its way to its room, with the subscription that its opening began.
pub(super) type Newcomer = (Peer, Subscription);

/// All rooms. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Lobby(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Not bounded by itself: there are never more newcomers than places.
    rooms: Mutex<HashMap<Topic, UnboundedSender<Newcomer>>>,
    heartbeat: Duration,
    metrics: Metrics,
    shutdown: Shutdown,
    tasks: TaskTracker,
}

impl Lobby {
    pub(super) fn new(
        heartbeat: Duration,
        metrics: Metrics,
        shutdown: Shutdown,
        tasks: TaskTracker,
    ) -> Self {
        let rooms = Mutex::default();
        Self(Arc::new(Shared { rooms, heartbeat, metrics, shutdown, tasks }))
    }

    /// Shows a newcomer to the room of its topic; opens it if there is none.
    pub(super) fn enter(&self, newcomer: Newcomer) {
        let mut rooms = self.rooms();
        let topic = newcomer.1.topic().clone();
        let sender = rooms.entry(topic).or_insert_with_key(|topic| self.open(topic, &newcomer.1));
        // A room leaves the map before it stops listening, under this lock.
        let _ = sender.send(newcomer);
    }

    fn open(&self, topic: &Topic, first: &Subscription) -> UnboundedSender<Newcomer> {
        let (sender, newcomers) = mpsc::unbounded_channel();
        let Shared { heartbeat, metrics, shutdown, .. } = &*self.0;
        let room = Room::new(first.sibling(), newcomers, metrics);
        let (lobby, topic) = (self.clone(), topic.clone());
        let life = room.run(lobby, topic, *heartbeat, shutdown.clone());
        self.0.tasks.spawn(life);
        sender
    }

    /// Closes a room; not if somebody is at its door.
    pub(super) fn close_if_empty(
        &self,
        topic: &Topic,
        newcomers: &UnboundedReceiver<Newcomer>,
    ) -> bool {
        let mut rooms = self.rooms();
        let empty = newcomers.is_empty();
        if empty {
            rooms.remove(topic);
        }
        empty
    }

    /// Closes a room to newcomers.
    pub(super) fn close(&self, topic: &Topic) {
        self.rooms().remove(topic);
    }

    /// Ends a session in a task of its own, so that its room need not wait for it.
    pub(super) fn see_off(&self, peer: Peer, reason: crate::transport::close::CloseReason) {
        self.0.tasks.spawn(peer.farewell(reason));
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<Topic, UnboundedSender<Newcomer>>> {
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
