//! `datastream health`: asks the server on this machine whether it is ready.
//!
//! A container image without a shell has no other program that could ask.

mod any_certificate;

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::Args;

use super::{Failure, commands::print_line};

/// Health checks of containers give a program about this long.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The answer of `/readyz` has a few hundred bytes.
const ANSWER_MAX: u64 = 16 * 1024;

/// The options of `health`: the address of the server, as `serve` is configured.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct HealthOptions {
    /// Address of HTTP. An unspecified address (0.0.0.0, [::]) means this machine.
    #[arg(long, env = "DATASTREAM_HTTP_ADDR", value_name = "ADDR:PORT")]
    #[arg(default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 3000))]
    pub http_addr: SocketAddr,

    /// Address of the internal listener. It is asked first, because it answers until the process
    /// ends.
    #[arg(long, env = "DATASTREAM_INTERNAL_ADDR", value_name = "ADDR:PORT")]
    pub internal_addr: Option<SocketAddr>,

    /// PEM file with the certificate of the server: if it is set, --http-addr speaks TLS.
    #[arg(long, env = "DATASTREAM_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
}

/// Prints `ready`, or fails with the reason.
pub(super) fn check(options: &HealthOptions) -> Result<(), Failure> {
    let http = (local(options.http_addr), options.tls_cert.is_some());
    let internal = options.internal_addr.map(|addr| (local(addr), false));
    let first = internal.unwrap_or(http);
    if [first, http].iter().all(|(addr, _)| addr.port() == 0) {
        return Err(Failure::Usage(
            "--http-addr (DATASTREAM_HTTP_ADDR): with port 0 the server takes a free port. Set a fixed port."
                .to_owned(),
        ));
    }
    // A server without an internal listener may run beside a variable that names one.
    let (addr, answer) = match asked(first) {
        Err(_) if internal.is_some() => asked(http),
        outcome => outcome,
    }
    .with_context(|| format!("no server answers on {}. Start it, or pass --http-addr", first.0))?;
    require_ready(addr, &answer)?;
    print_line("ready");
    Ok(())
}

fn asked((addr, is_tls): (SocketAddr, bool)) -> io::Result<(SocketAddr, String)> {
    ask(addr, is_tls).map(|answer| (addr, answer))
}

/// A server that listens on all addresses is asked by the loopback address.
fn local(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

fn ask(addr: SocketAddr, is_tls: bool) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    if is_tls { exchange(addr, any_certificate::encrypt(stream)?) } else { exchange(addr, stream) }
}

fn exchange(addr: SocketAddr, mut stream: impl Read + Write) -> io::Result<String> {
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Accepts 200 only. The problem's detail says why a server is not ready.
fn require_ready(addr: SocketAddr, answer: &str) -> anyhow::Result<()> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status.ok_or_else(|| anyhow!("{addr} does not speak HTTP. Pass --http-addr."))?;
    if status.starts_with("200 ") {
        return Ok(());
    }
    let problem: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str());
    let detail = detail.unwrap_or("see the server's log");
    Err(anyhow!("the server on {addr} is not ready ({status}): {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_status_200_is_ready() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 3000));
        assert!(require_ready(addr, "HTTP/1.1 200 OK\r\n\r\n{}").is_ok());
        let refused = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"detail\":\"catching up\"}";
        let error = require_ready(addr, refused).expect_err("not ready").to_string();
        assert!(error.contains("503") && error.contains("catching up"), "{error}");
        for other in ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 2000\r\n\r\n"] {
            assert!(require_ready(addr, other).is_err(), "{other}");
        }
    }

    #[test]
    fn an_unspecified_address_means_this_machine() {
        for (given, asked) in [
            ("0.0.0.0:3000", "127.0.0.1:3000"),
            ("[::]:3000", "[::1]:3000"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ] {
            assert_eq!(local(given.parse().expect("an address")).to_string(), asked);
        }
    }
}
