//! WebTransport: the server's cost per session and per datagram, latencies, and the share of a burst
//! that arrives. For comparison the floor, and quinn without HTTP/3 and WebTransport.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    runtime::Runtime,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use wtransport::{ClientConfig, Connection, Endpoint, tls::Sha256Digest};

use testkit::pinned::{Certificate, trusting};

use crate::{
    clock::Clock,
    database::{self, Database},
    histogram::Histogram,
    message::Reader,
    options::Options,
    outcome::Times,
    process,
    publisher::{self, Destination, Publisher},
    run_state::RunState,
    target::Target,
    wt_bare,
};

/// Rounds per second: a measurable load that one process can still send and receive for a thousand
/// sessions.
pub(crate) const RATE: f64 = 5.0;
/// The rounds of a thousand sessions would overflow the buffer of a single socket.
pub(crate) const SESSIONS_A_SOCKET: usize = 10;
/// Rounds in one INSERT.
const BURST: u64 = 2000;
/// The work of the handshakes has ended after this time.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);
/// Datagrams that arrive later count as lost.
const SILENCE: Duration = Duration::from_secs(1);

/// The rounds that all sessions have received.
#[derive(Debug, Default)]
struct Seen {
    datagrams: u64,
    reader: Reader,
    commit: Histogram,
    publish: Histogram,
}

/// Subscribers over WebTransport in this process.
struct Sessions {
    readers: JoinSet<()>,
    seen: Arc<Mutex<Seen>>,
}

/// Measures one session, then `--conns` sessions, then the floor and quinn.
pub(crate) fn measure(options: &Options, database: &Database) -> Result<()> {
    println!(
        "| WebTransport, {} rounds/s | private memory, kB/session | idle, CPU ms/s | CPU µs/datagram | arrived | commit to client, p50 / p99 / p99.9 ms | publish to client | of {BURST} in one INSERT |",
        options.rate.unwrap_or(RATE)
    );
    println!("|---|---|---|---|---|---|---|---|");
    for conns in [1, options.conns] {
        server(&Options { conns, ..options.clone() }, database)?;
    }
    wt_bare::floor()?;
    wt_bare::quinn(options)
}

fn server(options: &Options, database: &Database) -> Result<()> {
    let destination = Destination::Database { url: database.url().to_owned() };
    publisher::publish_seed(&destination)?;
    let mut with = options.clone();
    with.server_arg.extend(["--wt-enabled", "--wt-addr", "[::]:0"].map(str::to_owned));
    let target = Target::server(&with, database.url(), "127.0.0.1:0")?;
    let state = Arc::new(RunState::new(Clock::start()));
    let publishing = database::runtime()?;
    let publisher = Publisher::connect(&publishing, &destination, state.clone(), 0);
    let mut publisher = publishing.block_on(publisher)?;
    let mut publish = |rounds: u64| -> Result<f64> {
        let before = process::cpu_micros(target.pid())?;
        publishing.block_on(at_rate(options, &mut publisher, rounds))?;
        Ok((process::cpu_micros(target.pid())? - before) as f64)
    };
    let rounds = (options.rate.unwrap_or(RATE) * options.duration.as_secs_f64()).ceil() as u64;
    // The cost of the rounds without subscribers.
    let unsubscribed = publish(rounds)?;

    let clients = Runtime::new()?;
    let memory = process::private_bytes(target.pid())?;
    let sessions = clients.block_on(Sessions::connect(&target, options.conns, &state))?;
    std::thread::sleep(SETTLE);
    let memory = process::private_bytes(target.pid())?.saturating_sub(memory);
    let idle = idle_cpu(target.pid())?;
    let (start, sent) = (Instant::now(), publish(rounds)?);
    let spent = sent - unsubscribed - idle * start.elapsed().as_secs_f64();
    let arrived = sessions.settled(&clients);
    let ours = Seen { datagrams: arrived, ..sessions.take() };
    let due = (options.conns as u64 * rounds) as f64;

    let before = sessions.settled(&clients);
    publishing.block_on(publisher.publish_statement(BURST))?;
    let burst = (sessions.settled(&clients) - before) as f64;
    let burst = 100.0 * burst / (options.conns as u64 * BURST) as f64;
    ensure!(clients.block_on(sessions.all_open()), "the server ended sessions");
    println!(
        "| {} | {:.1} | {:.1} | {:.1} | {:.2} % | {} | {} | {burst:.1} % |",
        options.conns,
        memory as f64 / 1e3 / options.conns as f64,
        idle / 1e3,
        spent / due,
        100.0 * ours.datagrams as f64 / due,
        Times::of(&ours.commit).text(),
        Times::of(&ours.publish).text(),
    );
    Ok(())
}

/// CPU microseconds per second while nothing is sent.
pub(crate) fn idle_cpu(pid: u32) -> Result<f64> {
    let (start, before) = (Instant::now(), process::cpu_micros(pid)?);
    std::thread::sleep(SETTLE);
    Ok((process::cpu_micros(pid)? - before) as f64 / start.elapsed().as_secs_f64())
}

async fn at_rate(options: &Options, publisher: &mut Publisher, rounds: u64) -> Result<()> {
    let pause = Duration::from_secs_f64(1.0 / options.rate.unwrap_or(RATE));
    let start = Instant::now();
    for round in 1..=rounds as u32 {
        publisher.publish(1).await?;
        sleep_until(start + pause * round).await;
    }
    Ok(())
}

impl Sessions {
    async fn connect(target: &Target, count: usize, state: &Arc<RunState>) -> Result<Self> {
        let (url, hash) = certificate(target)?;
        let (mut readers, seen) = (JoinSet::new(), Arc::<Mutex<Seen>>::default());
        let mut endpoint = client(&hash)?;
        for number in 1..=count {
            if number % SESSIONS_A_SOCKET == 0 {
                endpoint = client(&hash)?;
            }
            let connection = endpoint.connect(&url).await.context("connect")?;
            let mut seed = connection.accept_uni().await?;
            while seed.read(&mut [0; 4096]).await?.is_some() {}
            readers.spawn(read(connection, seen.clone(), state.clone()));
        }
        Ok(Self { readers, seen })
    }

    /// Waits until no more datagrams arrive; returns their number.
    fn settled(&self, clients: &Runtime) -> u64 {
        clients.block_on(async {
            let mut known = self.datagrams();
            loop {
                sleep(SILENCE).await;
                let now = self.datagrams();
                if now == known {
                    return now;
                }
                known = now;
            }
        })
    }

    fn datagrams(&self) -> u64 {
        self.seen.lock().map_or(0, |seen| seen.datagrams)
    }

    /// Takes the results so far and starts new ones.
    fn take(&self) -> Seen {
        self.seen.lock().map(|mut seen| std::mem::take(&mut *seen)).unwrap_or_default()
    }

    async fn all_open(mut self) -> bool {
        let ended = self.readers.try_join_next().is_some();
        self.readers.shutdown().await;
        !ended
    }
}

async fn read(connection: Connection, seen: Arc<Mutex<Seen>>, state: Arc<RunState>) {
    while let Ok(datagram) = connection.receive_datagram().await {
        let now = state.clock.micros();
        let Ok(mut seen) = seen.lock() else { return };
        seen.datagrams += 1;
        let Ok(stamp) = seen.reader.read(&datagram) else { return };
        // A round may arrive before the commit returns to its writer.
        let committed = state.committed.get(stamp.seq).unwrap_or(now);
        seen.commit.record(now - committed);
        seen.publish.record(now - stamp.sent_us);
    }
}

fn client(hash: &Sha256Digest) -> Result<Endpoint<wtransport::endpoint::endpoint_side::Client>> {
    Ok(Endpoint::client(client_config(hash.clone()))?)
}

pub(crate) fn client_config(hash: Sha256Digest) -> ClientConfig {
    trusting([hash]).keep_alive_interval(None).build()
}

/// The URL for sessions of the game, and the hash of the certificate.
fn certificate(target: &Target) -> Result<(String, Sha256Digest)> {
    let answer = target.get("/wt/certificate")?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    let certificate: Certificate = serde_json::from_str(body)?;
    let port = certificate
        .url
        .rsplit(':')
        .next()
        .and_then(|rest| rest.split('/').next())
        .context("port")?;
    Ok((format!("https://127.0.0.1:{port}/wt/load"), certificate.hash().context("a hash")?))
}
