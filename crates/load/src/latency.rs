//! The table of latencies, and the latency that the server adds to that of the notification.

use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::{
    clock::Clock,
    database::{self, Database},
    histogram::Histogram,
    listener,
    message::Extras,
    options::{Options, Transport},
    outcome::Times,
    run::{self, Subject},
    run_state::{Marks, RunState},
};

const SUBSCRIBERS: [usize; 2] = [1, 1000];
const RATES: [f64; 2] = [10.0, 100.0];

/// Measures each cell of the table, then the notification alone.
pub(crate) fn latency(options: &Options, database: &Database) -> Result<()> {
    println!("| | rounds/s | commit to client, p50 / p99 / p99.9 ms | publish to client |");
    println!("|---|---|---|---|");
    for transport in [Transport::Ws, Transport::Sse] {
        for conns in SUBSCRIBERS {
            for rate in RATES {
                let options = cell(options, transport, conns, rate);
                let outcome = run::run(&options, Subject::Server, Some(database))?;
                ensure!(outcome.faults.none(), "not every round came once and in order");
                let [commit, publish] = [outcome.commit_ms, outcome.publish_ms].map(Times::text);
                println!("| {}, {conns} | {rate} | {commit} | {publish} |", transport.path());
            }
        }
    }
    notification(&cell(options, Transport::Ws, 1, 100.0), database)?;
    listener::listener(database)
}

fn cell(options: &Options, transport: Transport, conns: usize, rate: f64) -> Options {
    Options { transport, conns, rate: Some(rate), batch: 1, ..options.clone() }
}

/// Measures a plain LISTEN beside the server's: the difference is the time of decoding, hub and send.
fn notification(options: &Options, database: &Database) -> Result<()> {
    let state = RunState { notified: Some(Marks::default()), ..RunState::new(Clock::start()) };
    let mut listener = None;
    let (_, seen) = run::observe(options, Subject::Server, Some(database), state, |state| {
        listener = Some(listen(database.url().to_owned(), state.clone())?);
        Ok(())
    })?;
    let listener = listener.context("the run did not begin")?;
    let arrival = listener.join().map_err(|_| anyhow!("the listener panicked"))??;
    let (arrival, after) = (Times::of(&arrival), Times::of(&seen.notify));
    println!("\npublish to a plain LISTEN: {} ms (p50 / p99 / p99.9)", arrival.text());
    println!("from there to the client, WebSocket: {} ms", after.text());
    Ok(())
}

#[derive(Deserialize)]
struct Payload {
    extras: Extras,
}

/// Listens until the run stops. Returns once LISTEN is acknowledged.
fn listen(url: String, state: Arc<RunState>) -> Result<JoinHandle<Result<Histogram>>> {
    let (ready, is_ready) = mpsc::channel();
    let thread = thread::spawn(move || {
        let runtime = database::runtime()?;
        runtime.block_on(async {
            let (client, mut connection) = tokio_postgres::connect(&url, NoTls).await?;
            let shared = state.clone();
            let arrivals = runtime.spawn(async move {
                let mut messages = stream::poll_fn(|context| connection.poll_message(context));
                let mut arrivals = Histogram::default();
                while let Some(Ok(message)) = messages.next().await {
                    note(&shared, &message, &mut arrivals);
                }
                arrivals
            });
            client.batch_execute("listen datastream_rounds").await?;
            let _ = ready.send(());
            while !state.stop.load(std::sync::atomic::Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            drop(client);
            Ok(arrivals.await?)
        })
    });
    is_ready.recv().context("LISTEN failed")?;
    Ok(thread)
}

fn note(state: &RunState, message: &AsyncMessage, arrivals: &mut Histogram) {
    let now = state.clock.micros();
    let AsyncMessage::Notification(notification) = message else { return };
    let Ok(payload) = serde_json::from_str::<Payload>(notification.payload()) else { return };
    let extras = payload.extras;
    if let Some(notified) = &state.notified {
        notified.set(extras.seq, now);
    }
    arrivals.record(now - extras.sent_us);
}
