//! The latency of the listener: decoding a notification, checking its order, encoding the round and
//! publishing it, compared with a plain LISTEN in the same process.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use datastream::internals::{
    Capture, CaptureSettings, Games, Metrics, PgTarget, Shutdown, SkippedRounds,
    hub::{self, Batch, Outlet},
};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::database::Database;

const INSERT: &str = "insert into public.rounds (game_id, finished_at) \
    select id, clock_timestamp() from public.games where slug = 'load'";
/// Rounds inserted, ten milliseconds apart.
const ROUNDS: usize = 1_000;
const APART: Duration = Duration::from_millis(10);

/// The arrival time of each round.
#[derive(Debug, Default)]
struct Stamps(Mutex<HashMap<i64, Instant>>);

impl Stamps {
    fn note(&self, round: i64) {
        let now = Instant::now();
        self.0.lock().insert(round, now);
    }

    /// The delays of these arrivals after the earlier ones, in microseconds, sorted.
    fn after(&self, earlier: &Self) -> Vec<i128> {
        let [late, early] = [self, earlier].map(|stamps| stamps.0.lock().clone());
        let difference = |(round, at): (&i64, &Instant)| {
            let other = early.get(round)?;
            let micros = |duration: Duration| i128::try_from(duration.as_micros()).ok();
            match at.checked_duration_since(*other) {
                Some(after) => micros(after),
                None => micros(other.duration_since(*at)).map(|before| -before),
            }
        };
        let mut all: Vec<i128> = late.iter().filter_map(difference).collect();
        all.sort_unstable();
        all
    }
}

impl Outlet for Stamps {
    fn publish(&self, batch: &Batch) {
        let numbers = batch.iter().filter_map(|placed| placed.frame.round_id().as_number());
        numbers.for_each(|round| self.note(round));
    }
}

#[derive(Deserialize)]
struct Payload {
    round_id: i64,
}

/// Prints the difference, and for comparison that between two plain LISTENs.
pub(crate) fn listener(database: &Database) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let [published, plain, control] = [(); 3].map(|()| Arc::new(Stamps::default()));
    runtime.block_on(async {
        let shutdown = Shutdown::default();
        capture(database, &shutdown, &published).await?;
        let listening =
            [plain.clone(), control.clone()].map(|stamps| listen(database, &shutdown, stamps));
        let [first, second] = listening;
        let _clients = (first.await?, second.await?);
        insert(database, &shutdown).await?;
        tokio::time::sleep(APART * 10).await;
        shutdown.request();
        anyhow::Ok(())
    })?;
    let print = |name: &str, all: &[i128]| -> Result<()> {
        ensure!(all.len() > ROUNDS / 2, "only {} rounds arrived on both connections", all.len());
        let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
        println!("{name}: {:.3} / {:.3} ms (p50 / p99)", at(0.5), at(0.99));
        Ok(())
    };
    print("\npublished by the listener after a plain LISTEN beside it", &published.after(&plain))?;
    print("a second plain LISTEN after the first", &control.after(&plain))
}

/// Starts the capture as the server does, and waits until it is live.
async fn capture(database: &Database, shutdown: &Shutdown, stamps: &Arc<Stamps>) -> Result<()> {
    let target = PgTarget::resolve(Some(database.url()), |_| None)?;
    let metrics = Metrics::default();
    let (hub, publisher) = hub::new(NonZeroUsize::MIN, metrics.clone());
    hub.attach(stamps.clone());
    let (games, shutdown_of) = (Games::default(), shutdown.clone());
    let (listen, queries) = (target.clone(), target);
    let skipped = SkippedRounds::new(metrics.clone(), 1 << 20);
    let parts = CaptureSettings {
        listen,
        queries,
        history: 1,
        publisher,
        games,
        metrics,
        skipped,
        shutdown: shutdown_of,
    };
    let (capture, _phase) = Capture::new(parts);
    shutdown.spawn(capture.run());
    tokio::time::timeout(Duration::from_secs(10), hub.opened()).await.context("not live")
}

async fn listen(database: &Database, shutdown: &Shutdown, stamps: Arc<Stamps>) -> Result<Client> {
    let (client, mut connection) = tokio_postgres::connect(database.url(), NoTls).await?;
    shutdown.spawn(async move {
        let mut messages = stream::poll_fn(|context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(sent) = message
                && let Ok(payload) = serde_json::from_str::<Payload>(sent.payload())
            {
                stamps.note(payload.round_id);
            }
        }
    });
    client.batch_execute("listen datastream_rounds").await?;
    Ok(client)
}

async fn insert(database: &Database, shutdown: &Shutdown) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await?;
    shutdown.spawn(connection);
    let insert = client.prepare(INSERT).await?;
    let mut ticks = tokio::time::interval(APART);
    for _ in 0..ROUNDS {
        ticks.tick().await;
        client.execute(&insert, &[]).await?;
    }
    Ok(())
}
