//! All shards of the process, and who of them takes a connection.

use std::{
    io,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use super::shard::{Arrival, Command, Inbox, Settings, Shard};
use crate::{feed::FeedError, hub::Hub, shutdown::Shutdown, telemetry::metrics::Metrics};

/// The ways in to all shards. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shards(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    inboxes: Box<[Arc<Inbox>]>,
    /// Counts arrivals: they go around.
    arrivals: AtomicUsize,
}

/// What the shards are told by the configuration.
#[derive(Clone, Copy, Debug)]
pub struct ShardSettings {
    /// How many threads.
    pub count: NonZeroUsize,
    /// The time between two pings or heartbeat comments.
    pub heartbeat: Duration,
    /// How long a stop may take.
    pub grace: Duration,
}

impl Shards {
    /// Starts the threads. They take rounds from the hub at once, and stop with the process.
    pub fn start(
        settings: ShardSettings,
        hub: &Hub,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> io::Result<Self> {
        let ShardSettings { count, heartbeat, grace } = settings;
        let settings = Settings { heartbeat, grace, shards: count.get() };
        let start = |number| {
            let shard = Shard::new(settings, hub.clone(), metrics)?;
            let inbox = Arc::clone(shard.inbox());
            hub.attach(inbox.clone());
            run(number, shard, shutdown)?;
            Ok(inbox)
        };
        let inboxes = (0..count.get()).map(start).collect::<io::Result<_>>()?;
        Ok(Self(Arc::new(Parts { inboxes, arrivals: AtomicUsize::new(0) })))
    }

    /// Opens the stream of a connection, on the shard whose turn it is.
    pub async fn take(&self, arrival: Arrival) -> Result<(), FeedError> {
        let Parts { inboxes, arrivals } = &*self.0;
        let turn = arrivals.fetch_add(1, Ordering::Relaxed) % inboxes.len();
        let inbox = &inboxes[turn];
        arrival.open(|opened| inbox.push(Command::Open(Box::new(opened)))).await
    }
}

/// Runs a shard on a thread of its own, which a task of the process waits for.
fn run(number: usize, shard: Shard, shutdown: &Shutdown) -> io::Result<()> {
    let inbox = Arc::clone(shard.inbox());
    let (ended, end) = oneshot::channel();
    thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
        // Nobody waits any more when the process is about to exit.
        let _ = ended.send(shard.run());
    })?;
    let stop = shutdown.clone();
    shutdown.spawn(async move {
        let mut end = end;
        tokio::select! {
            ended = &mut end => {
                // Its subscribers have been cut off and connect again; better to another process.
                tracing::error!(?ended, "shard {number} ended: stopping");
                stop.request();
            }
            () = stop.requested() => {
                inbox.push(Command::Stop);
                let _ = end.await;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests;
