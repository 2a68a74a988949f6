//! A soak test of the first guarantee: every committed round reaches every subscriber once, under
//! any fault.
//!
//! ```text
//! writers ──▶ PostgreSQL ◀── proxy ◀── server ◀── subscribers (WebSocket, SSE, WebTransport)
//!                 ▲            ▲         ▲             │       (--nodes: several of each)
//!                 └────────────┴─ faults ┘             ▼
//!                 └──────────── the table ────▶ comparison
//! ```
//!
//! With `--bus`, the servers are edges, and the proxies are before NATS:
//!
//! ```text
//! PostgreSQL ◀── captures ──▶ NATS (three nodes) ◀── proxies ◀── edges ◀── subscribers
//! ```
//!
//! `cargo run --release -p datastream-soak -- --seconds 60 --seed 7 --capture auto`

mod args;
mod bus;
mod check;
mod database;
mod faults;
mod link;
mod losses;
mod plan;
mod process;
mod report;
mod server;
mod subscribers;
mod testbed;
mod transactions;
mod web_transport;
mod writers;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Parser;
use datastream::internals::Shutdown;
use fastrand::Rng;
use futures_util::future::try_join_all;
use sqlx::{Connection, PgConnection, Row as _};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    args::Args,
    check::{Expected, Promise, Row},
    faults::Faults,
    losses::Losses,
    plan::Plan,
    report::{Lost, Report},
    subscribers::{Behavior, Environment, Selection, Subscriber, Transport},
    testbed::Testbed,
    transactions::{Token, TransactionLog},
    writers::{GAMES, WRITERS, Writer},
};

/// The time for every subscriber to receive the last round after the last fault.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(120);

const EVERYTHING: Selection = Selection { path: "", games: &GAMES };
const CRASH: Selection = Selection { path: "/crash", games: &["crash"] };
const MULTIPLIER: Selection = Selection { path: "/type/multiplier", games: &["crash", "slot"] };
const SEVERAL: Selection =
    Selection { path: "?game=wall-street&type=color", games: &["wall-street", "double"] };

fn main() -> ExitCode {
    if let Some(code) = server::run_as_program() {
        return code;
    }
    let args = Args::parse();
    if args.schedule {
        print!("{}", Plan::draw(&args));
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // In each case, dropping the testbed ends the processes.
        tokio::select! {
            outcome = soak(args) => outcome,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })
}

async fn soak(args: &Args) -> anyhow::Result<bool> {
    let plan = Plan::draw(args);
    let testbed = Arc::new(Testbed::start(args).await?);
    let (tasks, tx_log) = (Shutdown::default(), Arc::new(TransactionLog::default()));
    let (last_tx, last_tx_receiver) = watch::channel(None);
    let env = Environment {
        addresses: testbed.addresses(),
        tx_log: Arc::clone(&tx_log),
        last_tx: last_tx_receiver,
    };
    let (subscribers, readers) = subscribe(args, &tasks, &env);
    let writers = write(args, &tasks, &testbed, &tx_log);
    let faults = Arc::new(Faults::default());
    let (end, losses) = (Duration::from_secs(args.seconds), Losses::default());
    let sequences =
        plan.sequences.into_iter().map(|faulty| faults.inject(&testbed, &tx_log, faulty, end));
    // An error in one sequence ends the run: results of the others would be useless.
    let injected = async {
        try_join_all(sequences).await?;
        testbed.recover().await
    };
    tokio::select! {
        injected = injected => {
            injected.with_context(|| format!("see {}", testbed.log().display()))?;
        }
        () = losses.follow(&testbed, &tx_log, &subscribers, &faults), if args.bus => {}
    }
    writers.iter().for_each(JoinHandle::abort);
    let last = finish(&testbed, &tx_log, &last_tx).await?;
    let ended = tokio::select! {
        ended = tokio::time::timeout(CATCH_UP_WITHIN, join(readers)) => ended,
        () = losses.follow(&testbed, &tx_log, &subscribers, &faults), if args.bus => Ok(()),
    };
    if ended.is_err() {
        println!(
            "not every subscriber got the last round, of transaction {last}, within {CATCH_UP_WITHIN:?}"
        );
    }
    let rows = table(&testbed.database.url).await?;
    let metrics = testbed.metrics().await?;
    let transactions = tx_log.transactions();
    let promise = Promise::new(args, &faults, losses.stretches());
    let expected = Expected::new(rows, transactions.clone(), &subscribers, promise, args);
    let check = |subscriber: Subscriber| (subscriber.clone(), expected.check(&subscriber));
    let findings: Vec<_> = subscribers.into_iter().map(check).collect();
    let rounds = expected.rows.len();
    let (version, transactions) = (testbed.database.version.as_str(), &transactions[..]);
    let report = Report {
        args,
        version,
        rounds,
        transactions,
        refusals: &tx_log.refusals(),
        faults: &faults,
        findings: &findings,
        metrics: &metrics,
        lost: Lost {
            counted: losses.counted(),
            rounds: expected.rounds_in_lost_stretches(),
            events: testbed.bus.as_ref().map(|bus| bus.events.counts()).unwrap_or_default(),
        },
    };
    let good = report.print() && ended.is_ok();
    if good {
        let _ = std::fs::remove_file(testbed.log());
    } else {
        println!("the server's log: {}", testbed.log().display());
    }
    if let Some(testbed) = Arc::into_inner(testbed) {
        testbed.stop().await?;
    }
    Ok(good)
}

fn subscribe(
    args: &Args,
    tasks: &Shutdown,
    env: &Environment,
) -> (Vec<Subscriber>, Vec<JoinHandle<()>>) {
    use Behavior::{Forgetful, Leaving, Slow, Steady};
    let steady = [(Steady, EVERYTHING), (Steady, CRASH)];
    let others = [
        (Slow, EVERYTHING),
        (Leaving, EVERYTHING),
        (Leaving, MULTIPLIER),
        (Leaving, SEVERAL),
        (Forgetful, CRASH),
    ];
    let nodes = args.nodes();
    let at_each = (0..nodes).flat_map(|node| steady.map(|slot| (Some(node), slot)));
    // With one node, every subscriber stays with it.
    let anywhere = others.map(|(behavior, selection)| {
        let stays = nodes == 1 || behavior == Slow;
        (stays.then_some(0), (behavior, selection))
    });
    let transports = [Transport::WebSocket, Transport::Sse];
    let all = at_each.chain(anywhere).flat_map(|(node, (behavior, selection))| {
        transports.map(|transport| Subscriber::new(transport, behavior, selection, node))
    });
    let sessions = [(Leaving, EVERYTHING), (Leaving, CRASH), (Steady, MULTIPLIER), (Slow, CRASH)];
    let sessions = sessions.map(|(behavior, selection)| {
        Subscriber::new(Transport::WebTransport, behavior, selection, (nodes == 1).then_some(0))
    });
    let all: Vec<_> = all.chain(sessions).collect();
    let start = |(number, subscriber): (u64, &Subscriber)| {
        let rng = Rng::with_seed(args.seed.wrapping_mul(1_000_003).wrapping_add(number));
        tasks.spawn(subscriber.clone().run(env.clone(), rng))
    };
    let readers = (0..).zip(&all).map(start).collect();
    (all, readers)
}

fn write(
    args: &Args,
    tasks: &Shutdown,
    testbed: &Testbed,
    tx_log: &Arc<TransactionLog>,
) -> Vec<JoinHandle<()>> {
    let start = |number: u64| {
        let rng = Rng::with_seed(args.seed.wrapping_mul(7_919).wrapping_add(number));
        let (url, tx_log) = (testbed.database.url.clone(), Arc::clone(tx_log));
        tasks.spawn(Writer { url, tx_log, rng, every: args.write_every }.run())
    };
    (0..WRITERS).map(start).collect()
}

async fn join(readers: Vec<JoinHandle<()>>) {
    for reader in readers {
        // The check reports the rounds that a failed reader lacks.
        let _ = reader.await;
    }
}

/// Finishes one last round of each game. Subscribers that have it have received everything.
async fn finish(
    testbed: &Testbed,
    tx_log: &TransactionLog,
    last_tx: &watch::Sender<Option<usize>>,
) -> anyhow::Result<usize> {
    let mut db = PgConnection::connect(&testbed.database.url).await?;
    quiet(&mut db).await?;
    let tx = tx_log.begin();
    last_tx.send_replace(Some(tx));
    let insert = "insert into rounds (game_id, finished_at, extras) \
        select id, clock_timestamp(), jsonb_build_object('tx', $1::bigint, 'n', id) from games";
    sqlx::query(insert).bind(i64::try_from(tx)?).execute(&mut db).await?;
    tx_log.committed(tx);
    Ok(tx)
}

/// Waits until the last statement of every writer has ended.
async fn quiet(db: &mut PgConnection) -> anyhow::Result<()> {
    let others = "select count(*) from pg_stat_activity where backend_type = 'client backend' \
        and pid <> pg_backend_pid() and application_name not like 'datastream%'";
    let mut checks = tokio::time::interval(Duration::from_millis(10));
    while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut *db).await? > 0 {
        checks.tick().await;
    }
    Ok(())
}

/// Reads every finished round, after all writers have ended.
async fn table(url: &str) -> anyhow::Result<Vec<Row>> {
    let mut db = PgConnection::connect(url).await?;
    let query = "select game_slug, (extras::jsonb->>'tx')::bigint as tx, (extras::jsonb->>'n')::bigint as n \
        from datastream.finished_rounds";
    let rows = sqlx::query(query).fetch_all(&mut db).await?;
    rows.iter()
        .map(|row| {
            let (tx, n) = (row.try_get::<i64, _>("tx")?, row.try_get::<i64, _>("n")?);
            let token = Token { tx: usize::try_from(tx)?, n: u32::try_from(n)? };
            Ok(Row { game: row.try_get("game_slug")?, token })
        })
        .collect()
}
