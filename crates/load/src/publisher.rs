//! Inserts rounds, at a rate or in a closed loop, from a separate thread.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use futures_util::future::try_join_all;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};
use tokio_postgres::{Client, Statement};

use crate::{
    database, events,
    message::{self, Stamp},
    options::{Pace, Transport},
    run_state::RunState,
    websocket,
};

/// A round that takes longer to reach every subscriber counts as lost.
const TIME_LIMIT: Duration = Duration::from_secs(30);

const INSERT: &str = "insert into public.rounds (game_id, finished_at, extras)
    select id, clock_timestamp(), jsonb_build_object('seq', $1::bigint, 'sent_us', $2::bigint)
    from public.games where slug = 'load'";

const INSERT_MANY: &str = "insert into public.rounds (game_id, finished_at, extras)
    select id, clock_timestamp(), jsonb_build_object('seq', seq, 'sent_us', $3::bigint)
    from public.games, generate_series($1::bigint, $2::bigint) seq where slug = 'load' order by seq";

/// The destination of rounds.
#[derive(Clone, Debug)]
pub(crate) enum Destination {
    /// A database, by INSERT.
    Database { url: String },
    /// The floor, as encoded frames.
    Floor { address: SocketAddr, transport: Transport },
}

enum Link {
    Database { client: Client, insert: Statement, insert_many: Statement },
    Floor { stream: TcpStream, transport: Transport },
}

/// Publishes rounds with rising sequence numbers.
pub(crate) struct Publisher {
    state: Arc<RunState>,
    link: Link,
    last: u64,
}

/// A publisher in its thread.
#[derive(Debug)]
pub(crate) struct Publishing {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Publisher {
    pub(crate) async fn connect(
        runtime: &tokio::runtime::Runtime,
        destination: &Destination,
        state: Arc<RunState>,
        last: u64,
    ) -> Result<Self> {
        let link = match destination {
            Destination::Database { url } => {
                let client = database::connect(runtime, url).await?;
                let insert = client.prepare(INSERT).await?;
                let insert_many = client.prepare(INSERT_MANY).await?;
                Link::Database { client, insert, insert_many }
            }
            Destination::Floor { address, transport } => {
                let mut stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                stream.write_all(b"PUBLISH").await?;
                Link::Floor { stream, transport: *transport }
            }
        };
        Ok(Self { state, link, last })
    }

    /// Publishes the next `count` rounds as one transaction; returns the last sequence number.
    pub(crate) async fn publish(&mut self, count: u64) -> Result<u64> {
        let sent_us = self.state.clock.micros();
        let seqs = self.last + 1..=self.last + count;
        self.state.clear(seqs.clone());
        match &mut self.link {
            Link::Database { client, insert, .. } => {
                let rows: Vec<_> = seqs.clone().map(|seq| [seq as i64, sent_us]).collect();
                if let [[seq, sent_us]] = &rows[..] {
                    client.execute(insert, &[seq, sent_us]).await?;
                } else {
                    transaction(client, insert, &rows).await?;
                }
            }
            Link::Floor { stream, transport } => {
                let frames = seqs.clone().flat_map(|seq| frame(*transport, seq, sent_us));
                stream.write_all(&frames.collect::<Vec<_>>()).await?;
            }
        }
        self.commit(seqs);
        Ok(self.last)
    }

    /// Publishes the next `count` rounds with one INSERT.
    pub(crate) async fn publish_statement(&mut self, count: u64) -> Result<u64> {
        let Link::Database { client, insert_many, .. } = &self.link else {
            anyhow::bail!("the floor takes no statement");
        };
        let seqs = self.last + 1..=self.last + count;
        self.state.clear(seqs.clone());
        let (from, to) = (*seqs.start() as i64, *seqs.end() as i64);
        client.execute(insert_many, &[&from, &to, &self.state.clock.micros()]).await?;
        self.commit(seqs);
        Ok(self.last)
    }

    fn commit(&mut self, seqs: std::ops::RangeInclusive<u64>) {
        let now = self.state.clock.micros();
        self.last = *seqs.end();
        seqs.for_each(|seq| self.state.committed.set(seq, now));
    }

    /// Publishes until `stop` is set.
    async fn run(&mut self, pace: Pace, batch: u64, stop: &AtomicBool) -> Result<u64> {
        let mut done = self.state.done.subscribe();
        let (start, first) = (Instant::now(), self.last);
        let mut transactions = 0;
        while !stop.load(Relaxed) {
            match pace {
                Pace::Rate(rate) => {
                    let due = Duration::from_secs_f64((transactions * batch) as f64 / rate);
                    tokio::time::sleep_until(start + due).await;
                }
                Pace::Window(window) => {
                    let due = first + (transactions + 1).saturating_sub(window) * batch;
                    let arrived = done.wait_for(|&done| done >= due);
                    let arrived = tokio::time::timeout(TIME_LIMIT, arrived).await;
                    arrived
                        .with_context(|| format!("round {due} did not reach every subscriber"))??;
                }
            }
            self.publish(batch).await?;
            transactions += 1;
        }
        Ok(self.last)
    }
}

impl Publishing {
    /// Publishes in a new thread.
    pub(crate) fn start(
        destination: Destination,
        state: Arc<RunState>,
        pace: Pace,
        batch: u64,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = database::runtime()?;
            runtime.block_on(async {
                let mut publisher = Publisher::connect(&runtime, &destination, state, 0).await?;
                publisher.run(pace, batch, &stopped).await
            })
        });
        Self { stop, thread }
    }

    /// Whether the publisher has failed.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops; returns the sequence number of the last round.
    pub(crate) fn finish(self) -> Result<u64> {
        self.stop.store(true, Relaxed);
        self.thread.join().map_err(|_| anyhow!("the publisher panicked"))?
    }
}

/// Publishes one round with the sequence number 0: the seed of the connections of the next run.
pub(crate) fn publish_seed(destination: &Destination) -> Result<()> {
    let Destination::Database { url } = destination else { return Ok(()) };
    let runtime = database::runtime()?;
    runtime.block_on(async {
        let client = database::connect(&runtime, url).await?;
        client.execute(INSERT, &[&0_i64, &0_i64]).await?;
        Ok(())
    })
}

/// Pipelines the INSERTs of a transaction: a game does not wait for each response either.
async fn transaction(client: &mut Client, insert: &Statement, rows: &[[i64; 2]]) -> Result<()> {
    let transaction = client.transaction().await?;
    let inserts =
        rows.iter().map(async |[seq, sent_us]| transaction.execute(insert, &[seq, sent_us]).await);
    try_join_all(inserts).await?;
    transaction.commit().await?;
    Ok(())
}

/// The encoded round, preceded by its length.
fn frame(transport: Transport, seq: u64, sent_us: i64) -> Vec<u8> {
    let json = message::json(Stamp { round_id: 1_000_000 + seq, seq, sent_us });
    let frame = match transport {
        Transport::Ws => websocket::text(&json),
        Transport::Sse => events::chunk(1_000_000 + seq, &json),
    };
    [&(frame.len() as u32).to_be_bytes()[..], &frame].concat()
}
