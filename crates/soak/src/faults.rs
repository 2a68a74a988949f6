//! Faults as they are planned, and how long the server took to be live again.

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
    stage::Stage,
};

/// What was done, and what was measured.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    counts: Mutex<BTreeMap<Fault, u64>>,
    /// Between "PostgreSQL accepts connections" and "live", where no other fault came between.
    recoveries: Mutex<Vec<Duration>>,
    /// Faults that began or ended so far: tells whether a recovery was disturbed.
    link_changes: AtomicU64,
}

impl Faults {
    /// Inflicts a lane's faults, each at its time or as soon as the one before is over; what is
    /// still to come when the time is up is left out.
    pub(crate) async fn inflict(
        &self,
        stage: &Stage,
        lane: Vec<Planned>,
        end: Duration,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        for planned in lane {
            tokio::time::sleep(planned.at.saturating_sub(start.elapsed())).await;
            if start.elapsed() > end {
                break;
            }
            self.one(stage, planned).await?;
            *self.counts.lock().entry(planned.fault).or_default() += 1;
        }
        Ok(())
    }

    async fn one(&self, stage: &Stage, planned: Planned) -> anyhow::Result<()> {
        let Planned { fault, hold, node, .. } = planned;
        match fault {
            Fault::KillBackend => match stage.kill_backend().await {
                Ok(accepts) => self.measure(stage, accepts).await,
                // The victim was gone before, or so was the whole server.
                Err(_) => Ok(()),
            },
            Fault::Immediate => {
                let accepts = stage.restart_postgresql(Stop::Immediate, hold).await?;
                self.measure(stage, accepts).await
            }
            Fault::Fast => {
                let accepts = stage.restart_postgresql(Stop::Fast, hold).await?;
                self.measure(stage, accepts).await
            }
            Fault::ServerStop => stage.restart_server(node, false, hold).await,
            Fault::ServerKill => stage.restart_server(node, true, hold).await,
            _ => {
                self.link_changes.fetch_add(1, Ordering::SeqCst);
                of_link(stage, planned).await;
                self.link_changes.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        }
    }

    async fn measure(&self, stage: &Stage, accepts: Instant) -> anyhow::Result<()> {
        let before = self.link_changes.load(Ordering::SeqCst);
        let live = stage.live().await?;
        let undisturbed =
            before.is_multiple_of(2) && before == self.link_changes.load(Ordering::SeqCst);
        if undisturbed {
            self.recoveries.lock().push(live.saturating_duration_since(accepts));
        }
        Ok(())
    }

    /// How often each was inflicted.
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

async fn of_link(stage: &Stage, Planned { fault, hold, node, .. }: Planned) {
    let Some(proxy) = stage.proxy(node) else { return };
    match fault {
        Fault::Cut => proxy.cut(),
        Fault::Flap => {
            for _ in 0..6 {
                proxy.cut();
                tokio::time::sleep(hold).await;
            }
        }
        // PostgreSQL may be away just now: then there is nothing to terminate.
        Fault::Terminate => drop(stage.terminate("datastream listen%").await),
        Fault::TerminateAll => drop(stage.terminate("datastream%").await),
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
