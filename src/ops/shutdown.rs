//! Shutdown: a token asks all tasks to stop, a tracker waits for them.

use std::{future::Future, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Stops the tasks of the process and waits for them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Spawns a task that `finish` waits for. The task should end soon after `requested`.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Spawns a task that is dropped when a stop is requested.
    pub fn spawn_until_requested(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.clone();
        self.spawn(async move {
            tokio::select! {
                () = stop.requested() => {}
                () = task => {}
            }
        });
    }

    /// Asks every task to stop.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Resolves after [`request`](Self::request).
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Whether a stop was requested.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits at most `grace` until every task has ended; returns whether all tasks did.
    pub async fn finish(&self, grace: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(grace, self.tasks.wait()).await.is_ok()
    }
}
