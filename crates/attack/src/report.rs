//! What was measured.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::time::{sleep, timeout};

use crate::{
    attacks::Held,
    clients, memory,
    options::Attack,
    steady::Rounds,
    target::{GAME, Target},
};

/// The longest time that a health check may take.
const HEALTH_MAX: Duration = Duration::from_secs(1);
/// Health checks.
const CHECKS: usize = 5;
const MEGABYTE: f64 = 1e6;

#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Milliseconds of each health check that was answered in time.
    health: Vec<f64>,
    /// Milliseconds until a new stream was open.
    stream: Option<f64>,
    /// Milliseconds until a resume of another client was answered.
    resume: Option<f64>,
    open: usize,
    attackers: usize,
    pub(crate) rounds: Rounds,
    ready: Duration,
    before: u64,
    peak: u64,
    left: u64,
}

impl Report {
    /// Measures beside the attackers.
    pub(crate) async fn of(target: &Target, before: u64, held: &Held) -> Result<Self> {
        let (ready, resume) = (target.ready, held.resume);
        let mut report = Self { before, ready, resume, ..Self::default() };
        for _ in 0..CHECKS {
            report.health.extend(measure(target.answers("/healthz")).await);
        }
        report.stream = Box::pin(measure(stream(target))).await;
        report.attackers = held.sockets.len() + held.quic.len();
        report.open = held.sockets.iter().filter(|socket| !clients::is_closed(socket)).count();
        report.open += held.quic.iter().filter(|it| it.close_reason().is_none()).count();
        report.peak = memory::peak_bytes(target.pid)?;
        Ok(report)
    }

    /// Measures the memory after the attackers left.
    pub(crate) async fn memory_left(&mut self, target: &Target, rest: Duration) -> Result<()> {
        sleep(rest).await;
        self.left = memory::resident_bytes(target.pid)?;
        Ok(())
    }

    pub(crate) fn print(&self, attack: Attack) {
        let megabytes = |bytes: u64| bytes as f64 / MEGABYTE;
        let worst = self.health.iter().copied().fold(0.0, f64::max);
        println!("attack                {attack:?}");
        println!("ready after           {} ms", self.ready.as_millis());
        println!("attackers connected   {} of {}", self.open, self.attackers);
        println!("health checks in 1 s  {} of {CHECKS}, worst {worst:.1} ms", self.health.len());
        println!("a new stream          {}", milliseconds(self.stream));
        if self.resume.is_some() {
            println!("another's resume      {}", milliseconds(self.resume));
        }
        let delays = &self.rounds.delays;
        let inserts = &self.rounds.inserts;
        println!("steady subscriber     {} of {} rounds", delays.len(), inserts.len());
        println!("its delays            {}", quantiles(delays));
        println!("of these, inserts     {}", quantiles(inserts));
        let [before, peak, left] = [self.before, self.peak, self.left].map(megabytes);
        println!(
            "memory                {before:.0} MB before, peak {peak:.0} MB, {left:.0} MB after"
        );
    }

    /// Fails if others noticed the attack.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(self.health.len() == CHECKS, "a health check was not answered within a second");
        ensure!(self.stream.is_some(), "no new stream was accepted");
        ensure!(
            self.rounds.delays.len() == self.rounds.inserts.len(),
            "the steady subscriber lost rounds"
        );
        Ok(())
    }
}

fn milliseconds(measured: Option<f64>) -> String {
    measured.map_or_else(|| "refused".to_owned(), |measured| format!("{measured:.1} ms"))
}

fn quantiles(sorted: &[f64]) -> String {
    let [half, most, worst] = [0.5, 0.99, 1.0].map(|share| quantile(sorted, share));
    format!("p50 {half:.1} ms, p99 {most:.1} ms, worst {worst:.1} ms")
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// The milliseconds that this took, if it succeeded in time.
pub(crate) async fn measure(step: impl Future<Output = bool>) -> Option<f64> {
    let start = Instant::now();
    let succeeded = timeout(HEALTH_MAX, step).await.unwrap_or(false);
    succeeded.then(|| start.elapsed().as_micros() as f64 / 1000.0)
}

async fn stream(target: &Target) -> bool {
    target.web_socket(&format!("/ws/{GAME}")).await.is_ok()
}
