//! What WebTransport costs a server: memory per idle session, CPU per datagram, time from the
//! game's statement to the client.
//!
//!     PID=… cargo run --example wt_cost -- http://127.0.0.1:3000 SESSIONS ROUNDS
//!     cargo run --release --example wt_cost -- floor
//!
//! The server is a process of its own, the release program; this one only has to keep up. Rounds
//! are inserted by `psql`, five a second, each with the time of its statement in `extras`. `floor`
//! is what a datagram costs at least: AES-128-GCM and one `sendto`.

use std::{
    fs,
    net::UdpSocket,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    Side,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{Keys, Version},
};
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use wtransport::{ClientConfig, Connection, Endpoint, tls::Sha256Digest};

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(200);
/// A round with its QUIC and HTTP/3 headers.
const DATAGRAM_BYTES: usize = 260;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["floor"] => floor(),
        [server, sessions, rounds] => tokio::runtime::Runtime::new()?.block_on(measure(
            server,
            sessions.parse()?,
            rounds.parse()?,
        )),
        _ => anyhow::bail!("usage: wt_cost SERVER SESSIONS ROUNDS | floor"),
    }
}

/// Encrypts and sends, and nothing else.
fn floor() -> Result<()> {
    const DATAGRAMS: u64 = 300_000;
    let suite = TLS13_AES_128_GCM_SHA256.tls13().context("TLS 1.3")?;
    let algorithm = suite.quic.context("QUIC")?;
    let keys = Keys::initial(Version::V1, suite, algorithm, b"12345678", Side::Server);
    let (from, to) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    from.connect(to.local_addr()?)?;
    let before = cpu("self")?;
    for number in 0..DATAGRAMS {
        let mut payload = [7; DATAGRAM_BYTES];
        let tag = keys.local.packet.encrypt_in_place(number, b"header", &mut payload)?;
        payload[..16].copy_from_slice(tag.as_ref());
        from.send(&payload)?;
    }
    let spent = cpu("self")? - before;
    println!("floor: {:.2} µs a datagram", spent * 1e6 / DATAGRAMS as f64);
    Ok(())
}

async fn measure(server: &str, sessions: usize, rounds: usize) -> Result<()> {
    let pid = std::env::var("PID").context("PID names the server's process")?;
    let (url, hash) = certificate(server)?;
    insert(1)?;
    let before = memory_kb(&pid)?;
    let connections = connect(&format!("{url}/crash"), &hash, sessions).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let each = (memory_kb(&pid)? - before) / sessions as f64;
    println!("{sessions} sessions: {each:.1} kB each");

    let (sender, mut latencies) = mpsc::unbounded_channel();
    let mut readers = JoinSet::new();
    for connection in connections {
        readers.spawn(read(connection, sender.clone()));
    }
    drop(sender);
    let (start, idle) = (Instant::now(), cpu(&pid)?);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let idle = (cpu(&pid)? - idle) / start.elapsed().as_secs_f64();
    let (start, busy) = (Instant::now(), cpu(&pid)?);
    tokio::task::spawn_blocking(move || insert(rounds)).await??;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = cpu(&pid)? - busy - idle * start.elapsed().as_secs_f64();
    readers.shutdown().await;
    let mut seen = Vec::new();
    while let Ok(Some(latency)) = timeout(Duration::from_millis(10), latencies.recv()).await {
        seen.push(latency);
    }
    seen.sort_by(f64::total_cmp);
    let at = |share: f64| seen.get((seen.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    let arrived = 100.0 * seen.len() as f64 / (sessions * rounds) as f64;
    println!("idle: {:.2} ms CPU a second", idle * 1e3);
    println!("{:.1} µs CPU a datagram, {arrived:.2} % arrived", spent * 1e6 / seen.len() as f64);
    println!("statement to client: p50 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.99));
    Ok(())
}

async fn connect(url: &str, hash: &str, sessions: usize) -> Result<Vec<Connection>> {
    let hash: [u8; 32] = STANDARD.decode(hash)?.try_into().ok().context("32 bytes")?;
    let config = ClientConfig::builder()
        .with_bind_address("127.0.0.1:0".parse()?)
        .with_server_certificate_hashes([Sha256Digest::new(hash)])
        .keep_alive_interval(None)
        .build();
    let endpoint = Endpoint::client(config)?;
    let mut connections = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        let connection = endpoint.connect(url).await?;
        let mut seed = connection.accept_uni().await?;
        while seed.read(&mut [0; 4096]).await?.is_some() {}
        connections.push(connection);
    }
    Ok(connections)
}

/// Reports the milliseconds that each round took.
async fn read(connection: Connection, latencies: mpsc::UnboundedSender<f64>) {
    while let Ok(datagram) = connection.receive_datagram().await {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sent = serde_json::from_slice::<Value>(&datagram).ok();
        let sent = sent.and_then(|round| round["extras"].as_str().map(str::to_owned));
        let sent = sent.and_then(|extras| serde_json::from_str::<Value>(&extras).ok());
        let Some(sent) = sent.and_then(|extras| extras["at"].as_f64()) else { continue };
        let _ = latencies.send(now.as_secs_f64() * 1e3 - sent * 1e3);
    }
}

fn certificate(server: &str) -> Result<(String, String)> {
    let answer = Command::new("curl").args(["-s", &format!("{server}/wt/certificate")]).output()?;
    let told: Value = serde_json::from_slice(&answer.stdout).context("/wt/certificate")?;
    let text = |key: &str| told[key].as_str().map(str::to_owned).context(key.to_owned());
    Ok((text("url")?, text("value")?))
}

/// Inserts rounds by `psql`, which finds the database as `PG*` say.
fn insert(rounds: usize) -> Result<()> {
    let one = "insert into rounds (game_id, finished_at, extras) select id, now(), \
        jsonb_build_object('at', extract(epoch from clock_timestamp()), 'point', '2.00') \
        from games where slug = 'crash';\n";
    let pause = format!("select pg_sleep({});\n", PAUSE.as_secs_f64());
    let script = format!("{one}{pause}").repeat(rounds);
    let file = std::env::temp_dir().join(format!("rounds-{}.sql", std::process::id()));
    fs::write(&file, script)?;
    let status = Command::new("psql").args(["-Xqt", "-o", "/dev/null", "-f"]).arg(&file).status();
    fs::remove_file(&file)?;
    anyhow::ensure!(status?.success(), "psql failed");
    Ok(())
}

fn memory_kb(pid: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Seconds of CPU that a process has used.
fn cpu(pid: &str) -> Result<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").context("stat")?.1.split(' ').collect::<Vec<_>>();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS_PER_SECOND)
}
