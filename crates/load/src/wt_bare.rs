//! Comparisons for WebTransport: encryption and `sendto` alone, and quinn alone.

use std::{
    io::{BufRead, BufReader, Write},
    net::UdpSocket,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    Side,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{Keys, Version},
};
use tokio::{runtime::Runtime, task::JoinSet, time::sleep};
use wtransport::{Identity, ServerConfig, quinn, tls::Sha256Digest};

use testkit::pinned::digest;

use crate::{
    options::Options,
    process,
    wt::{self, RATE, SESSIONS_A_SOCKET, SETTLE},
};

/// A round with its QUIC and HTTP/3 headers.
const DATAGRAM_BYTES: usize = 260;
const FLOOR_DATAGRAMS: u64 = 300_000;
/// A round without headers.
const ROUND: [u8; 230] = [b'7'; 230];

/// Only encrypts and sends.
pub(crate) fn floor() -> Result<()> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().context("TLS 1.3")?;
    let algorithm = suite.quic.context("QUIC")?;
    let keys = Keys::initial(Version::V1, suite, algorithm, b"12345678", Side::Server);
    let (from, to) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let to = to.local_addr()?;
    let before = process::cpu_micros(std::process::id())?;
    for number in 0..FLOOR_DATAGRAMS {
        let mut payload = [7; DATAGRAM_BYTES];
        let tag = keys.local.packet.encrypt_in_place(number, b"header", &mut payload)?;
        payload[..16].copy_from_slice(tag.as_ref());
        from.send_to(&payload, to)?;
    }
    let spent = process::cpu_micros(std::process::id())? - before;
    println!("\nAES-128-GCM and sendto: {:.1} µs/datagram", spent as f64 / FLOOR_DATAGRAMS as f64);
    Ok(())
}

/// The same sessions and datagrams without HTTP/3, WebTransport, database and hub, in a separate
/// process.
pub(crate) fn quinn(options: &Options) -> Result<()> {
    let rate = options.rate.unwrap_or(RATE);
    let rounds = (rate * options.duration.as_secs_f64()).ceil() as u64;
    let program = std::env::current_exe()?;
    let conns = options.conns.to_string();
    let mut child = Command::new(program)
        .args(["quinn-process", "--conns", &conns, "--rate", &rate.to_string()])
        .args(["--duration", &format!("{}ms", options.duration.as_millis())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let measured = compare(&mut child, options, rounds);
    child.kill()?;
    child.wait()?;
    measured
}

fn compare(child: &mut Child, options: &Options, rounds: u64) -> Result<()> {
    let (pid, conns) = (child.id(), options.conns);
    let stdout = child.stdout.take().context("stdout is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut line = || lines.next().context("the process ended")?.context("its output");
    let (port, hash) = (line()?, digest(&line()?).context("a hash")?);
    let memory = process::private_bytes(pid)?;
    let clients = Runtime::new()?;
    let (endpoints, readers) = clients.block_on(connect(port.parse()?, hash, conns))?;
    std::thread::sleep(SETTLE);
    let memory = process::private_bytes(pid)?.saturating_sub(memory);
    let idle = wt::idle_cpu(pid)?;
    let (start, before) = (std::time::Instant::now(), process::cpu_micros(pid)?);
    child.stdin.take().context("stdin is piped")?.write_all(b"go\n")?;
    ensure!(line()? == "done", "the process does not print that it is done");
    let spent = (process::cpu_micros(pid)? - before) as f64 - idle * start.elapsed().as_secs_f64();
    println!(
        "quinn alone, {conns} connections: {:.1} kB each, idle {:.1} CPU ms/s, {:.1} µs/datagram",
        memory as f64 / 1e3 / conns as f64,
        idle / 1e3,
        spent / (conns as u64 * rounds) as f64,
    );
    drop((endpoints, readers));
    Ok(())
}

async fn connect(
    port: u16,
    hash: Sha256Digest,
    conns: usize,
) -> Result<(Vec<quinn::Endpoint>, JoinSet<()>)> {
    let (mut endpoints, mut readers) = (Vec::<quinn::Endpoint>::new(), JoinSet::new());
    let config = wt::client_config(hash);
    for number in 0..conns {
        if number % SESSIONS_A_SOCKET == 0 {
            let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
            endpoint.set_default_client_config(config.quic_config().clone());
            endpoints.push(endpoint);
        }
        let Some(endpoint) = endpoints.last() else { continue };
        let connection = endpoint.connect(([127, 0, 0, 1], port).into(), "localhost")?.await?;
        readers.spawn(async move { while connection.read_datagram().await.is_ok() {} });
    }
    Ok((endpoints, readers))
}

/// The separate process: accepts connections, then sends to all of them at the rate.
pub(crate) fn serve(options: &Options) -> Result<()> {
    Runtime::new()?.block_on(async {
        let identity = Identity::self_signed(["localhost"])?;
        let hash = identity.certificate_chain().as_slice()[0].hash();
        let config = ServerConfig::builder()
            .with_bind_address("127.0.0.1:0".parse()?)
            .with_identity(identity)
            .keep_alive_interval(Some(Duration::from_millis(7500)))
            .build();
        let listener =
            quinn::Endpoint::server(config.quic_config().clone(), ([127, 0, 0, 1], 0).into())?;
        println!("{}\n{}", listener.local_addr()?.port(), STANDARD.encode(hash.as_ref()));
        let mut connections = Vec::new();
        while connections.len() < options.conns {
            connections.push(listener.accept().await.context("closed")?.await?);
        }
        let go = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
        ensure!(go.await?.is_some(), "stdin closed before the start");
        let rate = options.rate.unwrap_or(RATE);
        for _ in 0..(rate * options.duration.as_secs_f64()).ceil() as u64 {
            for connection in &connections {
                connection.send_datagram(bytes::Bytes::from_static(&ROUND))?;
            }
            sleep(Duration::from_secs_f64(1.0 / rate)).await;
        }
        println!("done");
        sleep(Duration::from_secs(60)).await;
        Ok(())
    })
}
