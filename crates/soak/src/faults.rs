//! Injects the planned faults and measures how long the server takes to become live again.

use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use embedded_postgres::Stop;

use testkit::FaultProxy;

use crate::{
    plan::{Fault, Planned},
    testbed::Testbed,
};

/// The injected faults and the measured recoveries.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    counts: Mutex<BTreeMap<Fault, u64>>,
    /// From "PostgreSQL accepts connections" to "live", if no other fault happened in between.
    recoveries: Mutex<Vec<Duration>>,
    /// Link faults that began or ended so far: shows whether one disturbed a recovery.
    link_changes: AtomicU64,
}

impl Faults {
    /// Injects a sequence of faults, each at its time or as soon as the one before has ended. Skips
    /// the faults that remain at the end of the run.
    pub(crate) async fn inject(
        &self,
        testbed: &Testbed,
        faults: Vec<Planned>,
        end: Duration,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        for planned in faults {
            tokio::time::sleep(planned.at.saturating_sub(start.elapsed())).await;
            if start.elapsed() > end {
                break;
            }
            self.one(testbed, planned).await?;
            *self.counts.lock().entry(planned.fault).or_default() += 1;
        }
        Ok(())
    }

    async fn one(&self, testbed: &Testbed, planned: Planned) -> anyhow::Result<()> {
        let Planned { fault, hold, node, .. } = planned;
        match fault {
            Fault::KillBackend => match testbed.kill_backend().await {
                Ok(accepts) => self.measure(testbed, accepts).await,
                // The backend, or the whole server, had already ended.
                Err(_) => Ok(()),
            },
            Fault::Immediate => {
                let accepts = testbed.restart_postgresql(Stop::Immediate, hold).await?;
                self.measure(testbed, accepts).await
            }
            Fault::Fast => {
                let accepts = testbed.restart_postgresql(Stop::Fast, hold).await?;
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
        let before = self.link_changes.load(Ordering::SeqCst);
        let live = testbed.live().await?;
        let undisturbed =
            before.is_multiple_of(2) && before == self.link_changes.load(Ordering::SeqCst);
        if undisturbed {
            self.recoveries.lock().push(live.saturating_duration_since(accepts));
        }
        Ok(())
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
    let Some(proxy) = testbed.proxy(node) else { return };
    match fault {
        Fault::Cut => proxy.cut(),
        Fault::Flap => {
            for _ in 0..6 {
                proxy.cut();
                tokio::time::sleep(hold).await;
            }
        }
        // PostgreSQL may be down at this time: then there is nothing to terminate.
        Fault::Terminate => drop(testbed.terminate("datastream listen%").await),
        Fault::TerminateAll => drop(testbed.terminate("datastream%").await),
        Fault::Refuse => held(proxy, hold, FaultProxy::refuse).await,
        Fault::Stall => held(proxy, hold, FaultProxy::stall).await,
        _ => held(proxy, hold, FaultProxy::half_open).await,
    }
}

async fn held(proxy: &FaultProxy, hold: Duration, begin: impl FnOnce(&FaultProxy)) {
    begin(proxy);
    tokio::time::sleep(hold).await;
    proxy.resume();
}
