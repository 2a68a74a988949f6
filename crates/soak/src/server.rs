//! The program under test: `datastream`, as another process of this executable.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{ExitCode, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context;
use datastream::cli;
use tokio::{process::Command, sync::oneshot};

use crate::process::Process;

/// A stop takes at most the grace period of 3 s.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// The error with which the program ends if it starts while the stream is deleted.
const NO_STREAM: &str = "NATS has no stream";

/// Runs the command line of `datastream`, if this process was started as it.
pub(crate) fn run_as_program() -> Option<ExitCode> {
    let command = std::env::args().nth(1)?;
    let is_program = std::env::var_os("SOAK_PROGRAM").is_some() && !command.starts_with('-');
    is_program.then(|| {
        let environment = cli::Environment::without_file();
        let parsed = cli::parse(std::env::args_os());
        cli::exit_code(parsed.and_then(|cli| cli::run(cli, &environment)))
    })
}

/// `datastream`, without the environment of this process.
pub(crate) fn program(command: &str) -> anyhow::Result<Command> {
    let mut program = Command::new(std::env::current_exe()?);
    program.arg(command).env_clear().env("SOAK_PROGRAM", "1").env("NO_COLOR", "1");
    program.current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    if let Some(filter) = std::env::var_os("RUST_LOG") {
        program.env("RUST_LOG", filter);
    }
    Ok(program)
}

/// `datastream serve`. The caller adds its source of rounds.
pub(crate) fn serve() -> anyhow::Result<Command> {
    let mut command = program("serve")?;
    command.env("DATASTREAM_HISTORY", crate::testbed::HUB_ROUNDS.to_string());
    command.envs(testkit::server::WEB_TRANSPORT);
    // More than a subscriber can miss, so every gap is an error of the server.
    command.env("DATASTREAM_RESUME_LIMIT", "1000000");
    command.env("DATASTREAM_HEARTBEAT", "1s").env("DATASTREAM_SHUTDOWN_GRACE", "3s");
    Ok(command)
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    /// Copies the log; returns its last line.
    log: Option<JoinHandle<String>>,
    pub(crate) addr: SocketAddr,
}

impl Server {
    /// Starts the server and waits until it listens. Appends its log to the file.
    pub(crate) async fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        command.env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0");
        let mut process = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()))?;
        let (reader, listening) = follow(&mut process, log)?;
        let line = listening.await.with_context(|| format!("no server: see {}", log.display()))?;
        let (_, addr) = line.split_once("http.addr=").context("the server logs its address")?;
        let addr = addr.split_whitespace().next().unwrap_or_default().parse()?;
        Ok(Self { process, log: Some(reader), addr })
    }

    /// Sends SIGKILL.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await
    }

    /// Stops all threads for a time.
    pub(crate) async fn pause(&self, hold: Duration) -> anyhow::Result<()> {
        self.process.signal("STOP").await?;
        tokio::time::sleep(hold).await;
        self.process.signal("CONT").await
    }

    /// Whether it has ended since NATS had no stream when it started. Any other end is an error.
    pub(crate) fn lacks_stream(&mut self) -> anyhow::Result<bool> {
        let Some(status) = self.process.child.try_wait()? else { return Ok(false) };
        // The process was the only writer of the pipe: its reader ends.
        let last = self.log.take().and_then(|log| log.join().ok()).unwrap_or_default();
        let is_expected = status.code() == Some(1) && last.contains(NO_STREAM);
        anyhow::ensure!(is_expected, "the program ended with {status}: {last}");
        Ok(true)
    }

    /// Sends SIGTERM and waits for the exit.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        self.process.signal("TERM").await?;
        match tokio::time::timeout(STOP_WITHIN, self.process.child.wait()).await {
            Ok(status) => anyhow::ensure!(status?.success(), "the server did not stop cleanly"),
            Err(_) => anyhow::bail!("the server did not stop within {STOP_WITHIN:?}"),
        }
        Ok(())
    }
}

/// Copies the log in a separate thread, which returns the last line; sends the line that contains the
/// server's address.
fn follow(
    process: &mut Process,
    log: &Path,
) -> anyhow::Result<(JoinHandle<String>, oneshot::Receiver<String>)> {
    let stderr = process.child.stderr.take().context("a pipe")?.into_owned_fd()?;
    let mut log = File::options().create(true).append(true).open(log)?;
    let (send, listening) = oneshot::channel();
    let (mut send, mut last) = (Some(send), String::new());
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(File::from(stderr)).lines().map_while(Result::ok) {
            // The run goes on without a log that cannot be written.
            let _ = log.write_all(format!("{line}\n").as_bytes());
            last.clone_from(&line);
            if line.contains("http.addr=")
                && let Some(send) = send.take()
            {
                let _ = send.send(line);
            }
        }
        last
    });
    Ok((reader, listening))
}
