//! A soak that proves the first promise: every committed round reaches every subscriber once,
//! whatever fails in between.
//!
//! ```text
//! writers ──▶ PostgreSQL ◀── proxy ◀── server ◀── subscribers (WebSocket, SSE, WebTransport)
//!                 ▲            ▲         ▲             │       (--nodes: several of each)
//!                 └────────────┴─ faults ┘             ▼
//!                 └──────────── the table ──────▶ the judge
//! ```
//!
//! `cargo run --release -p datastream-soak -- --seconds 60 --seed 7 --capture auto`

mod args;
mod check;
mod faults;
mod ledger;
mod link;
mod plan;
mod report;
mod server;
mod stage;
mod subscribers;
mod web_transport;
mod writers;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Parser;
use datastream::internals::Shutdown;
use fastrand::Rng;
use sqlx::{Connection, PgConnection, Row as _};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    args::Args,
    check::{Row, Truth},
    faults::Faults,
    ledger::{Ledger, Token},
    plan::Plan,
    report::Report,
    stage::Stage,
    subscribers::{Habit, Selection, Subscriber, Transport, World},
    writers::{GAMES, WRITERS, Writer},
};

/// After the last fault every subscriber has this long to get the last round.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(60);

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
        // However it ends, dropping the stage ends the processes.
        tokio::select! {
            outcome = soak(args) => outcome,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })
}

async fn soak(args: &Args) -> anyhow::Result<bool> {
    let plan = Plan::draw(args);
    let stage = Arc::new(Stage::set(args).await?);
    let (tasks, ledger) = (Shutdown::default(), Arc::new(Ledger::default()));
    let (fence, fenced) = watch::channel(None);
    let world = World { doors: stage.doors(), ledger: Arc::clone(&ledger), fence: fenced };
    let (subscribers, readers) = subscribe(args, &tasks, &world);
    let writers = write(args, &tasks, &stage, &ledger);
    let faults = Arc::new(Faults::default());
    let end = Duration::from_secs(args.seconds);
    // The first lane that fails ends it: what the other would show is worth nothing.
    tokio::try_join!(
        faults.inflict(&stage, plan.link, end),
        faults.inflict(&stage, plan.crash, end)
    )
    .with_context(|| format!("see {}", stage.log().display()))?;
    stage.live().await?;
    writers.iter().for_each(JoinHandle::abort);
    let last = finish(&stage, &ledger, &fence).await?;
    let ended = tokio::time::timeout(CATCH_UP_WITHIN, join(readers)).await;
    if ended.is_err() {
        println!(
            "not every subscriber got the last round, of transaction {last}, within {CATCH_UP_WITHIN:?}"
        );
    }
    let rows = table(&stage.url).await?;
    let metrics = stage.metrics().await?;
    let transactions = ledger.transactions();
    let truth = Truth::new(rows, transactions.clone(), &subscribers, args);
    let judge = |subscriber: Subscriber| (subscriber.clone(), truth.judge(&subscriber));
    let verdicts: Vec<_> = subscribers.into_iter().map(judge).collect();
    let rounds = truth.rows.len();
    let (version, transactions) = (stage.version.as_str(), &transactions[..]);
    let report = Report {
        args,
        version,
        rounds,
        transactions,
        refusals: &ledger.refusals(),
        faults: &faults,
        verdicts: &verdicts,
        metrics: &metrics,
    };
    let good = report.print() && ended.is_ok();
    if good {
        let _ = std::fs::remove_file(stage.log());
    } else {
        println!("the server's log: {}", stage.log().display());
    }
    if let Some(stage) = Arc::into_inner(stage) {
        stage.strike().await?;
    }
    Ok(good)
}

fn subscribe(
    args: &Args,
    tasks: &Shutdown,
    world: &World,
) -> (Vec<Subscriber>, Vec<JoinHandle<()>>) {
    use Habit::{Forgetful, Leaving, Slow, Steady};
    let steady = [(Steady, EVERYTHING), (Steady, CRASH)];
    let others = [
        (Slow, EVERYTHING),
        (Leaving, EVERYTHING),
        (Leaving, MULTIPLIER),
        (Leaving, SEVERAL),
        (Forgetful, CRASH),
    ];
    let nodes = usize::from(args.nodes);
    let at_each = (0..nodes).flat_map(|node| steady.map(|seat| (Some(node), seat)));
    // With one node there is nowhere else to go.
    let anywhere = others.map(|(habit, selection)| {
        let stays = nodes == 1 || habit == Slow;
        (stays.then_some(0), (habit, selection))
    });
    let transports = [Transport::WebSocket, Transport::Sse];
    let all = at_each.chain(anywhere).flat_map(|(node, (habit, selection))| {
        transports.map(|transport| Subscriber::new(transport, habit, selection, node))
    });
    let sessions = [(Leaving, EVERYTHING), (Leaving, CRASH), (Steady, MULTIPLIER), (Slow, CRASH)];
    let sessions = sessions.map(|(habit, selection)| {
        Subscriber::new(Transport::WebTransport, habit, selection, (nodes == 1).then_some(0))
    });
    let all: Vec<_> = all.chain(sessions).collect();
    let start = |(number, subscriber): (u64, &Subscriber)| {
        let rng = Rng::with_seed(args.seed.wrapping_mul(1_000_003).wrapping_add(number));
        tasks.spawn(subscriber.clone().run(world.clone(), rng))
    };
    let readers = (0..).zip(&all).map(start).collect();
    (all, readers)
}

fn write(
    args: &Args,
    tasks: &Shutdown,
    stage: &Stage,
    ledger: &Arc<Ledger>,
) -> Vec<JoinHandle<()>> {
    let start = |number: u64| {
        let rng = Rng::with_seed(args.seed.wrapping_mul(7_919).wrapping_add(number));
        let (url, ledger) = (stage.url.clone(), Arc::clone(ledger));
        tasks.spawn(Writer { url, ledger, rng, every: args.write_every }.run())
    };
    (0..WRITERS).map(start).collect()
}

async fn join(readers: Vec<JoinHandle<()>>) {
    for reader in readers {
        // One that failed has a diary that shows it.
        let _ = reader.await;
    }
}

/// Finishes one last round of each game, by which subscribers know that they have everything.
async fn finish(
    stage: &Stage,
    ledger: &Ledger,
    fence: &watch::Sender<Option<usize>>,
) -> anyhow::Result<usize> {
    let mut db = PgConnection::connect(&stage.url).await?;
    quiet(&mut db).await?;
    let tx = ledger.begin();
    fence.send_replace(Some(tx));
    let insert = "insert into rounds (game_id, finished_at, extras) \
        select id, clock_timestamp(), jsonb_build_object('tx', $1::bigint, 'n', id) from games";
    sqlx::query(insert).bind(i64::try_from(tx)?).execute(&mut db).await?;
    ledger.committed(tx);
    Ok(tx)
}

/// Waits until the last statement of every writer is over.
async fn quiet(db: &mut PgConnection) -> anyhow::Result<()> {
    let others = "select count(*) from pg_stat_activity where backend_type = 'client backend' \
        and pid <> pg_backend_pid() and application_name not like 'datastream%'";
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut *db).await? > 0 {
        looks.tick().await;
    }
    Ok(())
}

/// Every finished round, once no writer is at work any longer.
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
