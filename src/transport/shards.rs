//! All shards of the process, and who of them takes a connection.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::sync::{mpsc, oneshot};

use super::shard::{Command, CommandQueue, GrantedStream, Shard, ShardSettings};
use crate::{
    ops::{shutdown::Shutdown, telemetry::metrics::Metrics},
    stream::{feed::FeedError, hub::Hub},
};

/// The ways in to all shards. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shards(Arc<ShardQueues>);

#[derive(Debug)]
struct ShardQueues {
    queues: Box<[Arc<CommandQueue>]>,
    /// Counts arrivals: they go around.
    opened: AtomicUsize,
}

/// Why a shard has ended before the process was to stop. Its subscribers have been cut off and
/// connect again; better to another process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShardError {
    /// The system let it down.
    #[error("shard {0}: {1}")]
    Io(usize, io::Error),
    /// A defect; the panic hook has told where.
    #[error("shard {0} panicked")]
    Panicked(usize),
    /// It ended without a reason.
    #[error("shard {0} ended")]
    Ended(usize),
}

impl Shards {
    /// Starts the threads. They take rounds from the hub at once, and stop with the process. Tells
    /// of one that ends before.
    pub(crate) fn start(
        settings: ShardSettings,
        hub: &Hub,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> io::Result<(Self, mpsc::Receiver<ShardError>)> {
        // The first that fails decides.
        let (failed, failure) = mpsc::channel(1);
        let start = |number| {
            let shard = Shard::new(settings, hub.clone(), metrics)?;
            let queue = Arc::clone(shard.queue());
            hub.attach(queue.clone());
            run(number, shard, failed.clone(), shutdown)?;
            Ok(queue)
        };
        let queues = (0..settings.count.get()).map(start).collect::<io::Result<_>>()?;
        Ok((Self(Arc::new(ShardQueues { queues, opened: AtomicUsize::new(0) })), failure))
    }

    /// Opens the stream of a connection, on the shard whose turn it is.
    pub(crate) async fn open_stream(&self, stream: GrantedStream) -> Result<(), FeedError> {
        let ShardQueues { queues, opened } = &*self.0;
        let turn = opened.fetch_add(1, Ordering::Relaxed) % queues.len();
        let queue = &queues[turn];
        stream.open(|opened| queue.push(Command::Open(Box::new(opened)))).await
    }
}

/// Runs a shard on a thread of its own, which a task of the process waits for.
fn run(
    number: usize,
    shard: Shard,
    failed: mpsc::Sender<ShardError>,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let queue = Arc::clone(shard.queue());
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
                // Where there is no room, another has failed before.
                let _ = failed.try_send(match ended {
                    Ok(Ok(())) => ShardError::Ended(number),
                    Ok(Err(error)) => ShardError::Io(number, error),
                    Err(_) => ShardError::Panicked(number),
                });
            }
            () = stop.requested() => {
                queue.push(Command::Stop);
                let _ = end.await;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests;
