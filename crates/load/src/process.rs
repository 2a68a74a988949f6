//! CPU time and memory of a process, from `/proc`, and its CPU affinity.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

/// CPU time of all threads in microseconds: exact run time, not sampled ticks.
pub(crate) fn cpu_micros(pid: u32) -> Result<u64> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the read.
        let Ok(stat) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let run = stat.split(' ').next().unwrap_or_default();
        nanos += run.parse::<u64>().context("schedstat")?;
    }
    Ok(nanos / 1000)
}

/// Private memory of the process in bytes.
pub(crate) fn private_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(["Private_Clean:", "Private_Dirty:"].iter().map(|name| kilobytes(&text, name)).sum::<u64>()
        * 1024)
}

/// Peak memory of the process in bytes.
pub(crate) fn peak_bytes(pid: u32) -> Result<u64> {
    Ok(kilobytes(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmHWM:") * 1024)
}

/// Binds all threads of a process to one core.
pub(crate) fn pin(pid: u32, core: u32) -> Result<()> {
    let (core, pid) = (core.to_string(), pid.to_string());
    let output = Command::new("taskset").args(["-a", "-c", "-p", &core, &pid]).output();
    let output = output.context("run taskset (package util-linux)")?;
    ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        assert!(cpu_micros(pid).expect("schedstat") > 0);
        assert!(private_bytes(pid).expect("smaps") > 0);
        assert!(peak_bytes(pid).expect("status") >= private_bytes(pid).expect("smaps"));
    }
}
