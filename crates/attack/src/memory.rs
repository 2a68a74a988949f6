//! Memory of a process, from `/proc`.

use std::fs;

use anyhow::{Context, Result};

/// Resident memory now.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    value(pid, "VmRSS:")
}

/// The highest resident memory so far.
pub(crate) fn peak_bytes(pid: u32) -> Result<u64> {
    value(pid, "VmHWM:")
}

fn value(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no memory")?;
    let kilobytes: u64 = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        let pid = std::process::id();
        let resident = resident_bytes(pid).expect("/proc");
        assert!(resident > 0 && peak_bytes(pid).expect("/proc") >= resident);
    }
}
