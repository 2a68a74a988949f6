//! Names this process, so that a later one on the same machine can tell whether it has ended.

use std::{fmt, fs, str::FromStr};

use procfs::{
    process::{Process, Stat},
    sys::kernel::random::boot_id,
};
use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

/// A process of some machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessName {
    machine: Machine,
    id: i32,
    /// In clock ticks since the machine's start. Ids are used again, but not within a tick.
    start: u64,
}

/// Where ids of processes mean the same: one start of one kernel, and its namespaces of ids and time.
///
/// A container has namespaces of its own. Their numbers are used again, but only after the last
/// process in them has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Machine {
    boot: String,
    namespaces: String,
}

impl ProcessName {
    /// This process; `None` if `/proc` does not tell.
    pub(crate) fn of_this() -> Option<Self> {
        let stat = Process::myself().and_then(|this| this.stat()).ok()?;
        Some(Self { machine: Machine::this()?, id: stat.pid, start: stat.starttime })
    }

    /// Whether it is known to have ended: of another machine nothing is known.
    pub(crate) fn has_ended(&self) -> bool {
        Machine::this().is_some_and(|here| here == self.machine) && !self.may_run_here()
    }

    fn may_run_here(&self) -> bool {
        match Process::new(self.id).and_then(|process| process.stat()) {
            Ok(stat) => stat.starttime == self.start && !is_dead(&stat),
            // The mount option `hidepid` hides the processes of other users from /proc.
            Err(_) => exists(self.id),
        }
    }
}

impl Machine {
    fn this() -> Option<Self> {
        let boot = boot_id().ok()?;
        let namespace = |kind| fs::read_link(format!("/proc/self/ns/{kind}"));
        let text = |path: std::path::PathBuf| path.display().to_string();
        let ids = namespace("pid").map(text).ok()?;
        // Linux before 5.6 has no namespaces of time.
        let time = namespace("time").map(text).unwrap_or_default();
        Some(Self { boot, namespaces: ids + &time })
    }
}

/// A zombie has closed its sockets.
fn is_dead(stat: &Stat) -> bool {
    matches!(stat.state, 'Z' | 'X' | 'x')
}

fn exists(id: i32) -> bool {
    let found = Pid::from_raw(id).map(test_kill_process);
    found != Some(Err(Errno::SRCH))
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { boot, namespaces } = &self.machine;
        write!(f, "{boot} {namespaces} {} {}", self.id, self.start)
    }
}

/// The text names no process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAProcess;

impl FromStr for ProcessName {
    type Err = NotAProcess;

    fn from_str(text: &str) -> Result<Self, NotAProcess> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [boot, namespaces, id, start] = parts[..] else { return Err(NotAProcess) };
        let machine = Machine { boot: boot.to_owned(), namespaces: namespaces.to_owned() };
        let (id, start) = (id.parse().ok(), start.parse().ok());
        let (id, start) = id.zip(start).ok_or(NotAProcess)?;
        Ok(Self { machine, id, start })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The name of a child, while it runs.
    fn name_of(child: u32) -> ProcessName {
        let id = i32::try_from(child).expect("an id");
        let stat = Process::new(id).and_then(|process| process.stat()).expect("it runs");
        ProcessName { id, start: stat.starttime, ..ProcessName::of_this().expect("/proc") }
    }

    #[test]
    fn a_process_that_was_killed_has_ended_before_and_after_its_parent_waits_for_it() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("sleep");
        let name = name_of(child.id());
        assert!(!name.has_ended());
        assert_eq!(name.to_string().parse(), Ok(name.clone()));
        child.kill().expect("a child");
        while !name.has_ended() {
            std::thread::yield_now();
        }
        child.wait().expect("its status");
        assert!(name.has_ended());
    }

    #[test]
    fn a_process_that_uses_the_id_again_is_another_one() {
        let this = ProcessName::of_this().expect("/proc");
        assert!(!this.has_ended());
        assert!(ProcessName { start: this.start - 1, ..this }.has_ended());
    }

    #[test]
    fn of_another_machine_or_of_a_text_that_is_no_name_nothing_is_known() {
        let this = ProcessName { id: i32::MAX, ..ProcessName::of_this().expect("/proc") };
        assert!(this.has_ended());
        let machine = Machine { boot: "another".to_owned(), ..this.machine.clone() };
        assert!(!ProcessName { machine, ..this }.has_ended());
        for text in ["", "a b c d", "a b 1", "a b 1 2 3", "a b 1 -2"] {
            assert_eq!(text.parse::<ProcessName>(), Err(NotAProcess), "{text}");
        }
    }
}
