//! Injects the planned faults and measures how long the server takes to become live again.

use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use embedded_postgres::Stop;

use testkit::FaultProxy;

use tokio::sync::mpsc;

use crate::{
    plan::{Fault, Planned},
    testbed::Testbed,
    transactions::TransactionLog,
};

/// A server answers resumes exactly for 2 s after a poll; polls are up to 0.25 s apart.
const LEASE_AT_LEAST: Duration = Duration::from_millis(1_500);
/// A connection that is cut is noticed in this time, even on a busy machine.
const NOTICED_WITHIN: Duration = Duration::from_millis(100);

/// A link is stalled for at most 7 s.
const CUT_OFF_WITHIN: Duration = Duration::from_secs(10);

/// The injected faults and the measured recoveries.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    counts: Mutex<BTreeMap<Fault, u64>>,
    /// From "PostgreSQL accepts connections" to "live", if no other fault happened in between.
    recoveries: Mutex<Vec<Duration>>,
    /// Link faults that began or ended so far: shows whether one disturbed a recovery.
    link_changes: AtomicU64,
    outages: Mutex<Vec<Outage>>,
    of_nats: Mutex<Vec<FaultOfNats>>,
}

/// A fault of NATS: when it began, by the logical clock, and when all nodes were well again.
#[derive(Debug)]
struct FaultOfNats {
    fault: Fault,
    begun: u64,
    ended: Option<Instant>,
}

/// From the begin of a fault until every server was ready again.
#[derive(Clone, Copy, Debug)]
struct Outage {
    begun: Moment,
    ended: Moment,
}

/// A time of the logical clock, and the real one.
#[derive(Clone, Copy, Debug)]
struct Moment {
    logical: u64,
    real: Instant,
}

impl Moment {
    fn now(tx_log: &TransactionLog) -> Self {
        Self { logical: tx_log.now(), real: Instant::now() }
    }
}

impl Faults {
    /// Injects a sequence of faults, each at its time or as soon as the one before has ended. Skips
    /// the faults that remain at the end of the run.
    pub(crate) async fn inject(
        &self,
        testbed: &Testbed,
        tx_log: &TransactionLog,
        faults: Vec<Planned>,
        end: Duration,
    ) -> anyhow::Result<()> {
        let (over, outages) = mpsc::unbounded_channel();
        let injected = async {
            let injected = self.inject_all(testbed, tx_log, faults, end, &over).await;
            drop(over);
            injected
        };
        tokio::try_join!(injected, self.record_outages(testbed, tx_log, outages)).map(drop)
    }

    /// Records when the servers were ready after each fault.
    async fn record_outages(
        &self,
        testbed: &Testbed,
        tx_log: &TransactionLog,
        mut over: mpsc::UnboundedReceiver<Moment>,
    ) -> anyhow::Result<()> {
        while let Some(begun) = over.recv().await {
            // The answers of edges do not depend on the database.
            if testbed.bus.is_some() {
                continue;
            }
            tokio::time::sleep(NOTICED_WITHIN).await;
            testbed.live().await?;
            self.outages.lock().push(Outage { begun, ended: Moment::now(tx_log) });
        }
        Ok(())
    }

    async fn inject_all(
        &self,
        testbed: &Testbed,
        tx_log: &TransactionLog,
        faults: Vec<Planned>,
        end: Duration,
        over: &mpsc::UnboundedSender<Moment>,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        for planned in faults {
            tokio::time::sleep(planned.at.saturating_sub(start.elapsed())).await;
            if start.elapsed() > end {
                break;
            }
            let begun = Moment::now(tx_log);
            if planned.fault.is_of_nats() {
                let (fault, begun) = (planned.fault, begun.logical);
                self.of_nats.lock().push(FaultOfNats { fault, begun, ended: None });
            }
            self.one(testbed, planned).await?;
            if planned.fault.is_of_nats() {
                let mut of_nats = self.of_nats.lock();
                of_nats.last_mut().into_iter().for_each(|it| it.ended = Some(Instant::now()));
            }
            let _ = over.send(begun);
            *self.counts.lock().entry(planned.fault).or_default() += 1;
        }
        Ok(())
    }

    async fn one(&self, testbed: &Testbed, planned: Planned) -> anyhow::Result<()> {
        let Planned { fault, hold, node, .. } = planned;
        if let Some(bus) = testbed.bus.as_ref().filter(|_| fault.is_of_bus()) {
            testbed.revive().await?;
            bus.fail(planned).await?;
            return testbed.revive().await;
        }
        match fault {
            Fault::KillBackend => match testbed.database.kill_backend().await {
                Ok(accepts) => self.measure(testbed, accepts).await,
                // The backend, or the whole server, had already ended.
                Err(_) => Ok(()),
            },
            Fault::Immediate => {
                let accepts = testbed.database.restart(Stop::Immediate, hold).await?;
                self.measure(testbed, accepts).await
            }
            Fault::Fast => {
                let accepts = testbed.database.restart(Stop::Fast, hold).await?;
                self.measure(testbed, accepts).await
            }
            Fault::ServerStop => testbed.restart_server(node, false, hold).await,
            Fault::ServerKill => testbed.restart_server(node, true, hold).await,
            _ => {
                self.link_changes.fetch_add(1, Ordering::SeqCst);
                of_link(testbed, planned).await;
                self.link_changes.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        }
    }

    async fn measure(&self, testbed: &Testbed, accepts: Instant) -> anyhow::Result<()> {
        // An edge is ready without a database.
        if testbed.bus.is_some() {
            return Ok(());
        }
        let before = self.link_changes.load(Ordering::SeqCst);
        let live = testbed.live().await?;
        let undisturbed =
            before.is_multiple_of(2) && before == self.link_changes.load(Ordering::SeqCst);
        if undisturbed {
            self.recoveries.lock().push(live.saturating_duration_since(accepts));
        }
        Ok(())
    }

    /// The times, by the logical clock, in which a server may have been without the database for
    /// longer than it answers resumes exactly.
    pub(crate) fn lapses(&self) -> Vec<(u64, u64)> {
        let mut all = self.outages.lock().clone();
        all.sort_unstable_by_key(|outage| outage.begun.logical);
        let mut merged: Vec<Outage> = Vec::new();
        for outage in all {
            match merged.last_mut() {
                Some(last) if outage.begun.real <= last.ended.real + NOTICED_WITHIN => {
                    if outage.ended.real > last.ended.real {
                        last.ended = outage.ended;
                    }
                }
                _ => merged.push(outage),
            }
        }
        let is_long = |it: &&Outage| it.ended.real - it.begun.real > LEASE_AT_LEAST;
        merged.iter().filter(is_long).map(|it| (it.begun.logical, it.ended.logical)).collect()
    }

    /// When the fault of NATS began, by the logical clock, by which it loses messages: it is on, or ended
    /// just now, since an edge that is cut off meanwhile notices losses later. If no such fault explains a
    /// loss, the oldest one of any kind does.
    pub(crate) fn of_nats_since(&self) -> Option<u64> {
        let all = self.of_nats.lock();
        let is_near = |it: &&FaultOfNats| it.ended.is_none_or(|end| end.elapsed() < CUT_OFF_WITHIN);
        let near = || all.iter().filter(is_near);
        let found = near().find(|it| it.fault.loses()).or_else(|| near().next());
        found.map(|it| it.begun)
    }

    /// The number of injected faults of each kind.
    pub(crate) fn counts(&self) -> BTreeMap<Fault, u64> {
        self.counts.lock().clone()
    }

    /// The recoveries, shortest first.
    pub(crate) fn recoveries(&self) -> Vec<Duration> {
        let mut all = self.recoveries.lock().clone();
        all.sort_unstable();
        all
    }
}

async fn of_link(testbed: &Testbed, Planned { fault, hold, node, .. }: Planned) {
    let proxies = testbed.proxies(node);
    match fault {
        Fault::Cut => proxies.iter().for_each(FaultProxy::cut),
        Fault::Flap => {
            for _ in 0..6 {
                proxies.iter().for_each(FaultProxy::cut);
                tokio::time::sleep(hold).await;
            }
        }
        // PostgreSQL may be down at this time: then there is nothing to terminate.
        Fault::Terminate => drop(testbed.database.terminate("datastream listen%").await),
        Fault::TerminateAll => drop(testbed.database.terminate("datastream%").await),
        Fault::Refuse => held(proxies, hold, FaultProxy::refuse).await,
        Fault::Stall => held(proxies, hold, FaultProxy::stall).await,
        _ => held(proxies, hold, FaultProxy::half_open).await,
    }
}

async fn held(proxies: &[FaultProxy], hold: Duration, begin: impl Fn(&FaultProxy)) {
    proxies.iter().for_each(begin);
    tokio::time::sleep(hold).await;
    proxies.iter().for_each(FaultProxy::resume);
}
