//! Stretches of the log that NATS lost, as the program counts them: there it delivers at least once,
//! and edges may differ in the order.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    subscribers::{Subscriber, http},
    testbed::Testbed,
    transactions::TransactionLog,
};

const COUNTERS: [&str; 2] = ["datastream_bus_rewritten_total ", "datastream_bus_holes_total "];
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What is counted now was acknowledged before: stores are up to 5 s old, and an election or a start
/// of two nodes comes between.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(25);
/// The leader and the edges compare the end of the log each second.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);

/// A stretch, by the times of the logical clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// A stretch that has not ended: every edge must deliver a round that began after `after`.
#[derive(Clone, Copy, Debug)]
struct Open {
    from: u64,
    noticed: Instant,
    after: Option<u64>,
}

/// The stretches so far.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// What each process counted last.
    counted: Mutex<HashMap<SocketAddr, u64>>,
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
    ) {
        let mut times: VecDeque<(Instant, u64)> = VecDeque::new();
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
            for (_, addr) in testbed.sources() {
                let Some(count) = count(addr).await else { continue };
                let before = self.counted.lock().insert(addr, count);
                if before.unwrap_or_default() < count {
                    let from = times.front().map_or(0, |(_, logical)| *logical);
                    let open = Open { from, noticed: Instant::now(), after: None };
                    self.open.lock().push(open);
                }
            }
            self.end(tx_log, subscribers);
        }
    }

    /// Ends the stretches after which every edge has delivered a round.
    fn end(&self, tx_log: &TransactionLog, subscribers: &[Subscriber]) {
        let newest = subscribers.iter().filter(|one| one.sees_all()).map(|one| {
            let last = one.last_round();
            last.and_then(|(_, token)| tx_log.began(token.tx)).unwrap_or_default()
        });
        let delivered = newest.min().unwrap_or_default();
        let (mut open, now) = (self.open.lock(), tx_log.now());
        for stretch in open.iter_mut().filter(|it| it.noticed.elapsed() > NOTICED_WITHIN) {
            stretch.after.get_or_insert(now);
        }
        open.retain(|stretch| {
            let has_ended = stretch.after.is_some_and(|after| delivered > after);
            if has_ended {
                self.ended.lock().push(Stretch { from: stretch.from, until: now });
            }
            !has_ended
        });
    }

    /// All of them. One that has not ended lasts to the end of the run.
    pub(crate) fn stretches(&self) -> Vec<Stretch> {
        let open = self.open.lock();
        let open = open.iter().map(|it| Stretch { from: it.from, until: u64::MAX });
        self.ended.lock().iter().copied().chain(open).collect()
    }
}

/// How many losses and holes a process has counted; `None` if it does not answer.
async fn count(addr: SocketAddr) -> Option<u64> {
    let url = format!("http://{addr}/metrics");
    let answer = http().get(url).timeout(LOOK_EVERY).send().await.ok()?;
    let text = answer.text().await.ok()?;
    let value = |line: &str| {
        let value = COUNTERS.iter().find_map(|name| line.strip_prefix(name))?;
        value.trim().parse::<u64>().ok()
    };
    Some(text.lines().filter_map(value).sum())
}
