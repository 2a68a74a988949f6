//! The measured process: the server or the floor.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustls::ClientConfig;

use crate::{options::Options, process, tls::TestTls};

/// The core of the measured process, and the core of all other processes.
pub(crate) const CORE: u32 = 0;
pub(crate) const OTHER_CORE: u32 = 1;
/// A server on a busy machine starts in a second or two.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// A process that listens. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Target {
    child: Child,
    address: SocketAddr,
    tls: Option<TestTls>,
}

impl Target {
    /// Starts the server on this database and address; returns once it has caught up.
    pub(crate) fn server(options: &Options, url: &str, address: &str) -> Result<Self> {
        let mut command = command(&options.server()?, options.pin);
        command.args(["serve", "--http-addr", address]).args(&options.server_arg);
        command.env("DATABASE_URL", url).env_remove("DATASTREAM_LISTEN_URL");
        let tls = options.tls.then(TestTls::new);
        command.envs(tls.iter().flat_map(TestTls::variables));
        let target = Self::start(command)?.with(tls);
        let start = Instant::now();
        while !target.is_ready() {
            anyhow::ensure!(start.elapsed() < TIME_LIMIT, "the server is not ready after 30 s");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(target)
    }

    /// Starts the floor.
    pub(crate) fn floor(options: &Options) -> Result<Self> {
        let mut command = command(&std::env::current_exe()?, options.pin);
        command.arg("floor-process");
        Self::start(command)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The configuration of clients, if the server speaks TLS.
    pub(crate) fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.tls.as_ref().map(TestTls::client)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let text = self.get("/metrics")?;
        let samples = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        Ok(samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Whether the server has caught up.
    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
    }

    /// Sends a signal by its name: TERM stops the process, STOP suspends it, CONT continues it.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status()?;
        anyhow::ensure!(status.success(), "kill -s {name}: {status}");
        Ok(())
    }

    /// Waits for the exit.
    pub(crate) fn exit(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Sends SIGKILL and waits for the exit.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn with(mut self, tls: Option<TestTls>) -> Self {
        self.tls = tls;
        self
    }

    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        match address(stderr) {
            Ok(address) => Ok(Self { child, address, tls: None }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// The complete response to a request.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        let stream = TcpStream::connect(self.address)?;
        match &self.tls {
            None => exchange(stream, path),
            Some(tls) => exchange(tls.connect(stream)?, path),
        }
    }
}

fn exchange(mut stream: impl Read + Write, path: &str) -> Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn command(program: &Path, pin: bool) -> Command {
    if !pin {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", &CORE.to_string()]).arg(program);
    command
}

/// The address that the process logs. Prints its warnings and errors, and keeps reading so that the
/// process never blocks on the pipe.
fn address(stderr: ChildStderr) -> Result<SocketAddr> {
    let (found, address) = mpsc::channel();
    thread::spawn(move || {
        let mut output = String::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(address) = field(&line) {
                let _ = found.send(Ok(address));
                output.clear();
            } else if line.contains("WARN") || line.contains("ERROR") {
                eprintln!("{line}");
            }
            if output.len() < 10_000 {
                output.push_str(&line);
                output.push('\n');
            }
        }
        let _ = found.send(Err(output));
    });
    match address.recv_timeout(TIME_LIMIT) {
        Ok(Ok(address)) => Ok(address),
        Ok(Err(output)) => bail!("the process ended: {output}"),
        Err(_) => bail!("the process did not log its address within {TIME_LIMIT:?}"),
    }
}

fn field(line: &str) -> Option<SocketAddr> {
    // Colors split the name from its value.
    let plain = line.replace("\u{1b}[0m", "").replace("\u{1b}[2m", "").replace("\u{1b}[3m", "");
    let (_, value) = plain.split_once("http.addr=")?;
    value.split_whitespace().next()?.parse().ok()
}

/// Pins this process and PostgreSQL to the core that the server does not use.
pub(crate) fn pin_others(options: &Options, postgres: Option<u32>) -> Result<()> {
    if !options.pin {
        return Ok(());
    }
    process::pin(std::process::id(), OTHER_CORE)?;
    postgres.map_or(Ok(()), |pid| process::pin(pid, OTHER_CORE))
}
