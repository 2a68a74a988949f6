//! Where newcomers find the room of their topic, and rooms are opened and closed.

use parking_lot::{Mutex, MutexGuard};
use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_util::task::TaskTracker;

use super::room::{Left, Newcomer, Room};
use crate::{
    ops::{shutdown::Shutdown, telemetry::metrics::Metrics},
    stream::{hub::Subscription, topic::Topic},
};

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
        let Shared { metrics, tasks, .. } = &*self.0;
        let room = Room::new(first.sibling(), newcomers, metrics, tasks.clone());
        tasks.spawn(self.clone().keep(room, topic.clone()));
        sender
    }

    /// Keeps a room until nobody needs it.
    async fn keep(self, mut room: Room, topic: Topic) {
        let reason = loop {
            match room.run(self.0.heartbeat, &self.0.shutdown).await {
                Left::Ended(reason) => break reason,
                Left::Empty if self.close_if_empty(&topic, &room) => return,
                Left::Empty => {}
            }
        };
        self.rooms().remove(&topic);
        room.farewell(reason).await;
    }

    /// Closes a room; not if somebody is at its door.
    fn close_if_empty(&self, topic: &Topic, room: &Room) -> bool {
        let mut rooms = self.rooms();
        let empty = room.nobody_waits();
        if empty {
            rooms.remove(topic);
        }
        empty
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<Topic, UnboundedSender<Newcomer>>> {
        self.0.rooms.lock()
    }
}
