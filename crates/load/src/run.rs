//! One measured run: start, connect, idle, warm up, measure, drain.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    client::{Client, Plan, Seen, Start},
    clock::Clock,
    database::Database,
    options::{Options, Transport},
    outcome::{Outcome, Times},
    process,
    publisher::{self, Destination, Publishing},
    run_state::RunState,
    target::{self, Target},
};

/// Time for connections to settle and for allocators to release memory before it is read.
const IDLE: Duration = Duration::from_millis(500);
/// A round that arrives later than this after the previous one counts as lost; a busy machine may stall
/// for a second.
const SILENCE: Duration = Duration::from_secs(10);
/// Time limit for connecting all subscribers.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(60);

/// The measured program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Server,
    Floor,
}

/// Counters at one time.
struct Counters {
    at: Instant,
    cpu_us: u64,
    deliveries: u64,
    reads: u64,
    bytes: u64,
}

/// Starts the subject, runs the load and returns the measurements.
pub(crate) fn run(
    options: &Options,
    subject: Subject,
    database: Option<&Database>,
) -> Result<Outcome> {
    Ok(observe(options, subject, database, RunState::new(Clock::start()), |_| Ok(()))?.0)
}

/// The same with a state of the caller; calls `begun` when the run begins.
pub(crate) fn observe(
    options: &Options,
    subject: Subject,
    database: Option<&Database>,
    state: RunState,
    begun: impl FnOnce(&Arc<RunState>) -> Result<()>,
) -> Result<(Outcome, Seen)> {
    let (target, destination) = start(options, subject, database)?;
    let state = Arc::new(state);
    let base = process::private_bytes(target.pid())?;
    let cpu_before = process::cpu_micros(target.pid())?;
    let client = Client::start(plan(options, subject, &target), state.clone());
    let (client, connecting) = client.connected(TIME_LIMIT)?;
    let connect_cpu_us = process::cpu_micros(target.pid())? - cpu_before;
    thread::sleep(IDLE);
    let idle_bytes = process::private_bytes(target.pid())?.saturating_sub(base);
    begun(&state)?;

    let publishing = Publishing::start(destination, state.clone(), options.pace(), options.batch);
    thread::sleep(options.warm_up);
    state.recording.store(true, Relaxed);
    let from = Counters::now(&state, &target)?;
    wait(options.duration, || publishing.is_finished() || client.is_finished());
    let to = Counters::now(&state, &target)?;
    state.recording.store(false, Relaxed);

    let last = match publishing.finish() {
        Ok(last) => last,
        Err(error) => {
            let due = state.done.borrow().saturating_add(1);
            let faults = client.finish(due)?.faults;
            return Err(error.context(format!("{faults:?}")));
        }
    };
    drain(&state, last);
    let seen = client.finish(last)?;
    let conns = options.conns as f64;
    let outcome = Outcome {
        target: subject.name(),
        transport: options.transport,
        conns: options.conns,
        pace: options.pace_text(),
        idle_bytes: idle_bytes as f64 / conns,
        connects_per_s: conns / connecting.as_secs_f64(),
        connect_cpu_us: connect_cpu_us as f64 / conns,
        publish_ms: Times::of(&seen.publish),
        commit_ms: Times::of(&seen.commit),
        faults: seen.faults,
        ..to.since(&from)
    };
    Ok((outcome, seen))
}

/// Starts the subject and publishes the seed; returns the destination for further rounds.
pub(crate) fn start(
    options: &Options,
    subject: Subject,
    database: Option<&Database>,
) -> Result<(Target, Destination)> {
    match (subject, database) {
        (Subject::Server, Some(database)) => {
            let destination = Destination::Database { url: database.url().to_owned() };
            publisher::publish_seed(&destination)?;
            let target = Target::server(options, database.url(), "127.0.0.1:0")?;
            target::pin_others(options, database.pid())?;
            Ok((target, destination))
        }
        (Subject::Server, None) => bail!("the server needs a database"),
        (Subject::Floor, _) => {
            let target = Target::floor(options)?;
            target::pin_others(options, None)?;
            let (address, transport) = (target.address(), options.transport);
            Ok((target, Destination::Floor { address, transport }))
        }
    }
}

pub(crate) fn plan(options: &Options, subject: Subject, target: &Target) -> Plan {
    Plan {
        address: target.address(),
        tls: target.tls(),
        transport: options.transport,
        connections: options.conns,
        start: if subject == Subject::Floor { Start::Bare } else { Start::Seed },
        spin: options.pin,
    }
}

fn wait(duration: Duration, has_failed: impl Fn() -> bool) {
    let start = Instant::now();
    while start.elapsed() < duration && !has_failed() {
        thread::sleep(Duration::from_millis(5).min(duration.saturating_sub(start.elapsed())));
    }
}

/// Waits until every subscriber has the last round, or no round has arrived for [`SILENCE`].
pub(crate) fn drain(state: &RunState, last: u64) {
    let mut deliveries = state.deliveries.load(Relaxed);
    let mut moved = Instant::now();
    while *state.done.borrow() < last && moved.elapsed() < SILENCE {
        thread::sleep(Duration::from_millis(1));
        let now = state.deliveries.load(Relaxed);
        if now != deliveries {
            (deliveries, moved) = (now, Instant::now());
        }
    }
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Floor => "floor",
        }
    }
}

impl Counters {
    fn now(state: &RunState, target: &Target) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            cpu_us: process::cpu_micros(target.pid())?,
            deliveries: state.deliveries.load(Relaxed),
            reads: state.reads.load(Relaxed),
            bytes: state.bytes.load(Relaxed),
        })
    }

    fn since(&self, from: &Self) -> Outcome {
        let seconds = (self.at - from.at).as_secs_f64();
        let deliveries = ((self.deliveries - from.deliveries) as f64).max(1.0);
        let cpu_us = (self.cpu_us - from.cpu_us) as f64;
        Outcome {
            target: "",
            transport: Transport::Ws,
            conns: 0,
            pace: String::new(),
            deliveries_per_s: deliveries / seconds,
            cpu_us: cpu_us / deliveries,
            cores: cpu_us / 1e6 / seconds,
            joined: deliveries / ((self.reads - from.reads) as f64).max(1.0),
            bytes: (self.bytes - from.bytes) as f64 / deliveries,
            publish_ms: Times::default(),
            commit_ms: Times::default(),
            idle_bytes: 0.0,
            connects_per_s: 0.0,
            connect_cpu_us: 0.0,
            faults: Default::default(),
        }
    }
}
