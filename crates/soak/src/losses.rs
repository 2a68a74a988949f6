//! Stretches of the log that NATS lost, as the program counts them: there it delivers at least once,
//! and edges may differ in the order.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    faults::Faults,
    subscribers::{Subscriber, http},
    testbed::{self, Testbed},
    transactions::TransactionLog,
};

const COUNTERS: [&str; 2] = ["datastream_bus_rewritten_total ", "datastream_bus_holes_total "];
const LIVE: &str = "datastream_bus_live 1";
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What is counted now, while no fault of NATS is on, was acknowledged at most so long before. During a
/// fault, nothing from before it is lost: all nodes were well, so each of them had all messages.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(25);
/// The leader and the edges compare the end of the log each second.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);
/// An edge takes its order for that of the others once it has read the mark with which the leader opens.
/// The leader is live when NATS has the mark, and the edge may read it later.
const SETTLED_WITHIN: Duration = Duration::from_secs(1);

/// A stretch, by the times of the logical clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// A stretch that has not ended: every edge must deliver a round that began after `after`. Then its
/// leader must have appended everything.
#[derive(Clone, Copy, Debug)]
struct Open {
    from: u64,
    noticed: Instant,
    after: Option<u64>,
    delivered: Option<Instant>,
}

/// What a process says in its metrics.
#[derive(Clone, Copy, Debug)]
struct Said {
    losses: u64,
    /// Whether its leader has appended everything.
    is_live: bool,
}

/// The stretches so far.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// What each process counted last.
    counters: Mutex<HashMap<SocketAddr, u64>>,
    ended: Mutex<Vec<Stretch>>,
    open: Mutex<Vec<Open>>,
}

impl Losses {
    /// Follows the counters of all servers and captures.
    pub(crate) async fn follow(
        &self,
        testbed: &Testbed,
        tx_log: &TransactionLog,
        subscribers: &[Subscriber],
        faults: &Faults,
    ) {
        let (begun, mut times) = (Instant::now(), VecDeque::<(Instant, u64)>::new());
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            times.push_back((Instant::now(), tx_log.now()));
            while times.len() > 1
                && times.front().is_some_and(|(at, _)| at.elapsed() > ACKNOWLEDGED_WITHIN)
            {
                times.pop_front();
            }
            let mut all_live = true;
            for (name, addr) in testbed.sources() {
                let said = ask(addr).await;
                all_live &= !testbed::is_node(&name) || said.is_some_and(|said| said.is_live);
                let Some(Said { losses, .. }) = said else { continue };
                let before = self.counters.lock().insert(addr, losses);
                if before.unwrap_or_default() < losses {
                    println!(
                        "{:>9.3} s  {name} counts a loss of the log",
                        begun.elapsed().as_secs_f64()
                    );
                    let recent = times.front().map_or(0, |(_, logical)| *logical);
                    let from = faults.of_nats_since().unwrap_or(recent);
                    let open = Open { from, noticed: Instant::now(), after: None, delivered: None };
                    self.open.lock().push(open);
                }
            }
            self.end(tx_log, subscribers, all_live);
        }
    }

    /// Ends the stretches after which every edge has delivered a round and is live.
    fn end(&self, tx_log: &TransactionLog, subscribers: &[Subscriber], all_live: bool) {
        let newest = subscribers.iter().filter(|one| one.sees_all()).map(|one| {
            let last = one.last_round();
            last.and_then(|(_, token)| tx_log.began(token.tx)).unwrap_or_default()
        });
        let delivered = newest.min().unwrap_or_default();
        let (mut open, now) = (self.open.lock(), tx_log.now());
        for stretch in open.iter_mut().filter(|it| it.noticed.elapsed() > NOTICED_WITHIN) {
            stretch.after.get_or_insert(now);
        }
        for stretch in open.iter_mut().filter(|it| it.after.is_some_and(|after| delivered > after))
        {
            stretch.delivered.get_or_insert_with(Instant::now);
        }
        open.retain(|stretch| {
            let has_settled = |since: Instant| since.elapsed() > SETTLED_WITHIN;
            let has_ended = all_live && stretch.delivered.is_some_and(has_settled);
            if has_ended {
                self.ended.lock().push(Stretch { from: stretch.from, until: now });
            }
            !has_ended
        });
    }

    /// How many times a process has counted a loss.
    pub(crate) fn counted(&self) -> usize {
        self.open.lock().len() + self.ended.lock().len()
    }

    /// All of them. One that has not ended lasts to the end of the run.
    pub(crate) fn stretches(&self) -> Vec<Stretch> {
        let open = self.open.lock();
        let open = open.iter().map(|it| Stretch { from: it.from, until: u64::MAX });
        self.ended.lock().iter().copied().chain(open).collect()
    }
}

/// Reads the metrics of a process; `None` if it does not answer.
async fn ask(addr: SocketAddr) -> Option<Said> {
    let url = format!("http://{addr}/metrics");
    let answer = http().get(url).timeout(LOOK_EVERY).send().await.ok()?;
    let text = answer.text().await.ok()?;
    let value = |line: &str| {
        let value = COUNTERS.iter().find_map(|name| line.strip_prefix(name))?;
        value.trim().parse::<u64>().ok()
    };
    let losses = text.lines().filter_map(value).sum();
    Some(Said { losses, is_live: text.lines().any(|line| line == LIVE) })
}
