//! A process under test. It does not outlive this one.

use std::process::{Child as StdChild, Command as StdCommand, Stdio};

use anyhow::{Context, ensure};
use tokio::process::{Child, Command};

/// Kills the process when this process's end of the pipe closes, even if this process was killed.
const GUARD: &str = r#"read _; kill -9 "$1" 2>/dev/null"#;

/// A running process; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: Child,
    guard: StdChild,
}

impl Process {
    /// Starts the command.
    pub(crate) fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.kill_on_drop(true).spawn()?;
        let guard = guard(child.id().context("a process that runs")?)?;
        Ok(Self { child, guard })
    }

    /// Sends SIGKILL, to a paused process too.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Sends a signal by its name: `TERM`, `STOP`, `CONT`.
    pub(crate) async fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.child.id().context("a process that runs")?.to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await?;
        ensure!(sent.success(), "kill -s {name} {pid}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Before the id of the process is used again.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

fn guard(pid: u32) -> anyhow::Result<StdChild> {
    let mut command = StdCommand::new("/bin/sh");
    command.args(["-c", GUARD, "soak-guard", &pid.to_string()]).stdin(Stdio::piped());
    Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}
