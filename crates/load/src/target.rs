//! The process under measurement: the server, or the floor.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{options::Options, process};

/// The core of the process under measurement, and the core of all the rest.
pub(crate) const CORE: u32 = 0;
pub(crate) const OTHER_CORE: u32 = 1;
/// A server that starts beside busy neighbors takes a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that listens. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Target {
    child: Child,
    address: SocketAddr,
}

impl Target {
    /// The server on this database and address, once it has caught up.
    pub(crate) fn server(options: &Options, url: &str, address: &str) -> Result<Self> {
        let mut command = command(&options.server()?, options.pin);
        command.args(["serve", "--http-addr", address]).args(&options.server_arg);
        command.env("DATABASE_URL", url).env_remove("DATASTREAM_LISTEN_URL");
        let target = Self::start(command)?;
        let start = Instant::now();
        while !target.is_ready() {
            anyhow::ensure!(start.elapsed() < PATIENCE, "the server is not ready after 30 s");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(target)
    }

    /// The bare loop.
    pub(crate) fn floor(options: &Options) -> Result<Self> {
        let mut command = command(&std::env::current_exe()?, options.pin);
        command.arg("floor-process");
        Self::start(command)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
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

    /// Whether it has caught up.
    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
    }

    /// Sends it a signal by its name: TERM asks it to stop, STOP freezes it, CONT lets it go on.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status()?;
        anyhow::ensure!(status.success(), "kill -s {name}: {status}");
        Ok(())
    }

    /// Waits for its end.
    pub(crate) fn exit(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Ends it at once, without a chance to say goodbye.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        match address(stderr) {
            Ok(address) => Ok(Self { child, address }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// The whole answer to a request.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
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

/// The address that the process says it listens on. What else it says is passed on while it starts,
/// and read on so that it never waits for us.
fn address(stderr: ChildStderr) -> Result<SocketAddr> {
    let (found, address) = mpsc::channel();
    thread::spawn(move || {
        let mut said = String::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(address) = field(&line) {
                let _ = found.send(Ok(address));
                said.clear();
            } else if line.contains("WARN") || line.contains("ERROR") {
                eprintln!("{line}");
            }
            if said.len() < 10_000 {
                said.push_str(&line);
                said.push('\n');
            }
        }
        let _ = found.send(Err(said));
    });
    match address.recv_timeout(PATIENCE) {
        Ok(Ok(address)) => Ok(address),
        Ok(Err(said)) => bail!("the process ended: {said}"),
        Err(_) => bail!("the process does not say where it listens"),
    }
}

fn field(line: &str) -> Option<SocketAddr> {
    // Colors split the name from its value.
    let plain = line.replace("\u{1b}[0m", "").replace("\u{1b}[2m", "").replace("\u{1b}[3m", "");
    let (_, value) = plain.split_once("http.addr=")?;
    value.split_whitespace().next()?.parse().ok()
}

/// Binds this process and PostgreSQL to the core that the server does not use.
pub(crate) fn make_room(options: &Options, postgres: Option<u32>) -> Result<()> {
    if !options.pin {
        return Ok(());
    }
    process::pin(std::process::id(), OTHER_CORE)?;
    postgres.map_or(Ok(()), |pid| process::pin(pid, OTHER_CORE))
}
