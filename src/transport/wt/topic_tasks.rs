//! The topic tasks by topic: starts a task for the first session, and ends it after the last.

use parking_lot::{Mutex, MutexGuard};
use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_util::task::TaskTracker;

use super::{
    session_leases::SessionLeases,
    topic_task::{NewSession, RunEnd, TopicTask},
};
use crate::{
    access::CurrentKeys,
    ops::{shutdown::Shutdown, telemetry::metrics::Metrics},
    stream::{hub::Subscription, topic::Topic},
};

/// All topic tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct TopicTasks(Arc<TasksState>);

#[derive(Debug)]
struct TasksState {
    /// Senders of new sessions. Unbounded, because the connection limiter bounds the sessions.
    senders: Mutex<HashMap<Topic, UnboundedSender<NewSession>>>,
    heartbeat: Duration,
    keys: CurrentKeys,
    metrics: Metrics,
    shutdown: Shutdown,
    tasks: TaskTracker,
}

impl TopicTasks {
    pub(super) fn new(
        heartbeat: Duration,
        keys: CurrentKeys,
        metrics: Metrics,
        shutdown: Shutdown,
        tasks: TaskTracker,
    ) -> Self {
        let senders = Mutex::default();
        Self(Arc::new(TasksState { senders, heartbeat, keys, metrics, shutdown, tasks }))
    }

    /// The keys in use, for checks of leases.
    pub(super) fn keys(&self) -> &CurrentKeys {
        &self.0.keys
    }

    /// Passes a session to the task of its topic; starts the task if there is none.
    pub(super) fn add(&self, new_session: NewSession) {
        let mut senders = self.senders();
        let topic = new_session.1.topic().clone();
        let sender =
            senders.entry(topic).or_insert_with_key(|topic| self.start(topic, &new_session.1));
        // This cannot fail: under this lock, a task leaves the map before it drops its receiver.
        let _ = sender.send(new_session);
    }

    fn start(&self, topic: &Topic, first: &Subscription) -> UnboundedSender<NewSession> {
        let (sender, new_sessions) = mpsc::unbounded_channel();
        let TasksState { keys, metrics, tasks, .. } = &*self.0;
        let leases = SessionLeases::new(keys.clone());
        let task = TopicTask::new(first.sibling(), new_sessions, leases, metrics, tasks.clone());
        tasks.spawn(self.clone().run(task, topic.clone()));
        sender
    }

    /// Runs a topic task until it has no session.
    async fn run(self, mut task: TopicTask, topic: Topic) {
        let reason = loop {
            match task.run(self.0.heartbeat, &self.0.shutdown).await {
                RunEnd::Ended(reason) => break reason,
                RunEnd::Empty if self.close_if_empty(&topic, &task) => return,
                RunEnd::Empty => {}
            }
        };
        self.senders().remove(&topic);
        task.close(reason).await;
    }

    /// Removes a task, unless a new session waits for it.
    fn close_if_empty(&self, topic: &Topic, task: &TopicTask) -> bool {
        let mut senders = self.senders();
        let empty = task.has_no_new_sessions();
        if empty {
            senders.remove(topic);
        }
        empty
    }

    fn senders(&self) -> MutexGuard<'_, HashMap<Topic, UnboundedSender<NewSession>>> {
        self.0.senders.lock()
    }
}
