//! The server process of a cluster, from spawn to exit, and the guard process that stops it if this
//! process ends.

use std::{
    fs::{self, File},
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Error, Installation, Settings};

/// A start takes 20 ms, or seconds after a crash.
const START_MAX: Duration = Duration::from_secs(60);
/// A fast stop takes 9 ms, or a few seconds with a large checkpoint.
const STOP_MAX: Duration = Duration::from_secs(20);
/// Time between two checks of the state: a tenth of the duration of a start.
const CHECK_EVERY: Duration = Duration::from_millis(2);

/// Stops the server when this process's end of the pipe closes, then removes temporary folders. The
/// wait is limited to 5 s: if the init process reaps no orphans, a dead server still accepts signals.
const GUARD: &str = r#"read _
kill -s "$2" "$1" 2>/dev/null
tries=0
while kill -0 "$1" 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
shift 2
rm -rf -- "$@""#;

/// A way to stop a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Fast shutdown: ends the sessions, writes a checkpoint (SIGINT).
    Fast,
    /// Immediate shutdown: the next start recovers (SIGQUIT).
    Immediate,
    /// As after a power failure or by the out-of-memory killer (SIGKILL).
    Kill,
}

/// The parameters of a start.
pub(super) struct Launch<'a> {
    pub(super) installation: &'a Installation,
    pub(super) data_dir: &'a Path,
    pub(super) socket_dir: &'a Path,
    pub(super) log: PathBuf,
    pub(super) port: u16,
    pub(super) settings: &'a Settings,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    process: Child,
    guard: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a server and waits until it accepts connections.
    pub(super) fn start(launch: &Launch<'_>) -> Result<Self, Error> {
        stop_leftover(launch)?;
        let deadline = Instant::now() + STOP_MAX;
        loop {
            match Self::start_once(launch) {
                Err(_) if launch.is_held() && Instant::now() < deadline => {
                    thread::sleep(CHECK_EVERY);
                }
                outcome => return outcome,
            }
        }
    }

    fn start_once(launch: &Launch<'_>) -> Result<Self, Error> {
        let process = launch.spawn()?;
        let guard = launch.guard(process.id());
        let mut server = Self { process, guard: guard?, log: launch.log.clone() };
        server.wait_until_ready(launch)?;
        Ok(server)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    #[cfg(test)]
    pub(super) fn guard_pid(&self) -> u32 {
        self.guard.id()
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Stops the server and waits for its exit.
    pub(super) fn stop(mut self, how: Stop) -> Result<(), Error> {
        let signaled = match how {
            Stop::Fast => signal("INT", self.pid()),
            Stop::Immediate => signal("QUIT", self.pid()),
            Stop::Kill => self.process.kill().is_ok(),
        };
        let gone = wait_until(STOP_MAX, || !self.is_running());
        if signaled && gone { Ok(()) } else { Err(failed("stop", &self.log)) }
    }

    fn wait_until_ready(&mut self, launch: &Launch<'_>) -> Result<(), Error> {
        let socket = launch.socket_dir.join(format!(".s.PGSQL.{}", launch.port));
        let pid_file = launch.data_dir.join("postmaster.pid");
        let pid = self.pid();
        let mut exited = false;
        let ended = wait_until(START_MAX, || {
            exited = !self.is_running();
            exited || (is_ready(&pid_file, pid) && UnixStream::connect(&socket).is_ok())
        });
        if ended && !exited { Ok(()) } else { Err(failed("start", &launch.log)) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

impl Launch<'_> {
    /// Whether sessions of a killed server are still ending: they hold its shared memory.
    fn is_held(&self) -> bool {
        let log = fs::read_to_string(&self.log);
        log.is_ok_and(|log| log.contains("pre-existing shared memory block"))
    }

    fn spawn(&self) -> Result<Child, Error> {
        // Append, because sessions of a killed server may still write.
        let log = File::create(&self.log)
            .and_then(|_| File::options().append(true).open(&self.log))
            .map_err(|e| Error::io("create", &self.log, e))?;
        let errors = log.try_clone().map_err(|e| Error::io("open", &self.log, e))?;
        let mut command = self.installation.command("postgres");
        command.arg("-D").arg(self.data_dir).arg("-k").arg(self.socket_dir);
        command.arg("-p").arg(self.port.to_string());
        for (name, value) in self.settings() {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // A separate process group: Ctrl-C reaches only this process, which then stops the server.
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        command.spawn().map_err(|e| Error::io("run", &self.installation.bin().join("postgres"), e))
    }

    fn settings(&self) -> Vec<(String, String)> {
        let address = if self.settings.tcp_port.is_some() { "127.0.0.1" } else { "" };
        let mut all = vec![("listen_addresses", address), ("shared_buffers", "16MB")];
        if !self.settings.durable {
            all.extend([("fsync", "off"), ("synchronous_commit", "off")]);
            all.push(("full_page_writes", "off"));
        }
        let all = all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        all.chain(self.settings.extra.iter().cloned()).collect()
    }

    fn guard(&self, pid: u32) -> Result<Child, Error> {
        let how = if self.settings.durable { "INT" } else { "QUIT" };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARD, "datastream-guard", &pid.to_string(), how]);
        command.arg(self.socket_dir).current_dir("/").process_group(0);
        if !self.settings.durable {
            command.arg(self.data_dir).arg(super::lock_path(self.data_dir));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map_err(|e| Error::io("run", Path::new("/bin/sh"), e))
    }
}

/// Stops a server that an earlier process left running in this data directory. The lock on the
/// directory excludes a running process.
fn stop_leftover(launch: &Launch<'_>) -> Result<(), Error> {
    let file = fs::read_to_string(launch.data_dir.join("postmaster.pid")).unwrap_or_default();
    let pid = file.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
    let Some(pid) = pid.filter(|&pid| is_server_of(pid, launch.data_dir)) else { return Ok(()) };
    for how in ["INT", "QUIT"] {
        signal(how, pid);
        if wait_until(STOP_MAX, || !is_server_of(pid, launch.data_dir)) {
            return Ok(());
        }
    }
    Err(failed("stop", &launch.log))
}

/// Process ids are reused: checks that the process is a `postgres` with this directory.
fn is_server_of(pid: u32, data_dir: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|&byte| byte == 0);
    let program = words.next().unwrap_or_default();
    program.ends_with(b"postgres")
        && words.any(|word| word == data_dir.as_os_str().as_encoded_bytes())
}

/// Line 1 of postmaster.pid is the process id, line 8 the state.
fn is_ready(pid_file: &Path, pid: u32) -> bool {
    let file = fs::read_to_string(pid_file).unwrap_or_default();
    let lines: Vec<&str> = file.lines().map(str::trim).collect();
    lines.first().is_some_and(|line| *line == pid.to_string()) && lines.get(7) == Some(&"ready")
}

/// Uses the shell's `kill`, because std can only send SIGKILL.
fn signal(name: &str, pid: u32) -> bool {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"kill -s "$0" "$1""#, name, &pid.to_string()]);
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn wait_until(max: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + max;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(CHECK_EVERY);
    }
}

fn failed(what: &'static str, log: &Path) -> Error {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("LOG:")).collect();
    let end = lines[lines.len().saturating_sub(4)..].join("; ");
    let log = if end.is_empty() { format!("see {}", log.display()) } else { end };
    Error::Server { what, log }
}
