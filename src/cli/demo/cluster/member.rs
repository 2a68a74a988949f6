//! A process of the cluster: started again some seconds after it was killed.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::process::{Child, Command};

use crate::ops::shutdown::Shutdown;

/// Long enough to see what its absence does.
const RESTART_AFTER: Duration = Duration::from_secs(10);
const CHECK_EVERY: Duration = Duration::from_millis(200);
/// How long the processes may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A process, by how to start it.
#[derive(Debug)]
pub(super) struct Member {
    name: String,
    folder: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    state: State,
}

#[derive(Debug)]
enum State {
    Running(Child),
    Ended(Instant),
}

impl Member {
    pub(super) fn new(folder: &Path, name: &str, program: &Path, arguments: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            program: program.to_owned(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            variables: Vec::new(),
            state: State::Ended(Instant::now()),
        }
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let path = |extension| self.folder.join(format!("{}.{extension}", self.name));
        let log = File::options().create(true).append(true).open(path("log"))?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let pid = child.id().unwrap_or_default();
        std::fs::write(path("pid"), pid.to_string())?;
        self.state = State::Running(child);
        Ok(())
    }

    /// Starts it again if its time has come.
    fn check(&mut self) -> anyhow::Result<()> {
        match &mut self.state {
            State::Running(child) => {
                if let Some(status) = child.try_wait()? {
                    let name = &self.name;
                    tracing::warn!("{name} ended ({status}); it starts again in 10 s");
                    self.state = State::Ended(Instant::now());
                }
            }
            State::Ended(at) if at.elapsed() > RESTART_AFTER => {
                tracing::info!("{} starts again", self.name);
                self.start()?;
            }
            State::Ended(_) => {}
        }
        Ok(())
    }

    async fn stop(&mut self) {
        let State::Running(child) = &mut self.state else { return };
        let Some(pid) = child.id() else { return };
        // A process that has ended meanwhile needs no signal.
        let _ = Command::new("kill").args(["-s", "TERM", &pid.to_string()]).status().await;
        let _ = tokio::time::timeout(STOP_WITHIN, child.wait()).await;
    }
}

/// All processes, in the order in which they start.
#[derive(Debug, Default)]
pub(super) struct Members(Vec<Member>);

impl Members {
    pub(super) fn start(&mut self, mut member: Member) -> anyhow::Result<()> {
        member.start()?;
        self.0.push(member);
        Ok(())
    }

    /// Starts killed ones again until the shutdown, then stops all, the last one first.
    pub(super) async fn supervise(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut check = tokio::time::interval(CHECK_EVERY);
        loop {
            tokio::select! {
                () = shutdown.requested() => break,
                _ = check.tick() => {}
            }
            for member in &mut self.0 {
                member.check()?;
            }
        }
        for member in self.0.iter_mut().rev() {
            member.stop().await;
        }
        Ok(())
    }
}
