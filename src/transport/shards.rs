//! All shards of the process: start, hand-off of connections, failure.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tokio::sync::{mpsc, oneshot};

use super::shard::{Command, CommandQueue, GrantedStream, ReplayNumber, Shard, ShardSettings};
use crate::{
    access::CurrentKeys,
    ops::{memory_budget::MemoryBudget, shutdown::Shutdown, telemetry::metrics::Metrics},
    stream::{feed::FeedError, hub::Hub},
};

/// The command queues of all shards. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shards(Arc<ShardQueues>);

#[derive(Debug)]
struct ShardQueues {
    queues: Box<[Arc<CommandQueue>]>,
    /// Connections handed off so far. They are assigned round robin.
    opened: AtomicU64,
    shutdown: Shutdown,
}

/// Why a shard ended without a shutdown. The process ends as well: the subscribers of the shard
/// have lost their connections, and another process can serve them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShardError {
    /// A system call failed.
    #[error("shard {0}: {1}")]
    Io(usize, io::Error),
    /// A defect; the panic hook has logged it.
    #[error("shard {0} panicked")]
    Panicked(usize),
    /// The event loop returned.
    #[error("shard {0} ended")]
    Ended(usize),
}

impl Shards {
    /// Starts the threads, which get rounds from the hub at once and stop at a shutdown. The
    /// receiver yields the first shard that ends before that.
    pub(crate) fn start(
        settings: ShardSettings,
        hub: &Hub,
        budget: &MemoryBudget,
        keys: &CurrentKeys,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> io::Result<(Self, mpsc::Receiver<ShardError>)> {
        // Room for one: the first failure ends the process.
        let (failed, failure) = mpsc::channel(1);
        let start = |number| {
            let shard = Shard::new(settings, hub.clone(), budget, keys.clone(), metrics)?;
            let queue = Arc::clone(shard.queue());
            hub.attach(queue.clone());
            run(number, shard, failed.clone(), shutdown)?;
            Ok(queue)
        };
        let queues = (0..settings.count.get()).map(start).collect::<io::Result<_>>()?;
        let (opened, shutdown) = (AtomicU64::new(0), shutdown.clone());
        Ok((Self(Arc::new(ShardQueues { queues, opened, shutdown })), failure))
    }

    /// Opens the stream of a connection on the next shard.
    pub(crate) async fn open_stream(&self, stream: GrantedStream) -> Result<(), FeedError> {
        let ShardQueues { queues, opened, shutdown } = &*self.0;
        let number = opened.fetch_add(1, Ordering::Relaxed);
        let queue = &queues[number as usize % queues.len()];
        if let Some((task, reader)) = stream.open(queue, ReplayNumber(number)).await? {
            shutdown.spawn_until_requested(task.run(reader));
        }
        Ok(())
    }
}

/// Runs a shard on its own thread. A task waits for the end of the thread.
fn run(
    number: usize,
    shard: Shard,
    failed: mpsc::Sender<ShardError>,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let queue = Arc::clone(shard.queue());
    let (ended, end) = oneshot::channel();
    thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
        // The task may be gone if the process is about to exit.
        let _ = ended.send(shard.run());
    })?;
    let stop = shutdown.clone();
    shutdown.spawn(async move {
        let mut end = end;
        tokio::select! {
            ended = &mut end => {
                // If the channel is full, another shard failed before.
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
