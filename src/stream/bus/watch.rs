//! Watches for the leader: how long it has been silent, and whether it gave up.

use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures_util::StreamExt;

use super::{
    BusError,
    beat::{BEAT_EVERY, Beat},
    request::Bus,
};

/// Standbys claim at different moments: the others then get the first one's beat.
const JITTER: Duration = Duration::from_millis(300);

/// A node that has just started waits for two beat messages.
const FIRST_WAIT: Duration = Duration::from_millis(1_200);

/// A standby's view of the leader.
#[derive(Debug)]
pub(crate) struct LeaderWatch {
    messages: Subscriber,
    patience: Duration,
    received: Instant,
    last: Option<Beat>,
    /// The greatest end that a leader has named: the log has had so many messages.
    end: u64,
}

/// The first beat of a leader, if one comes in time.
pub(crate) async fn find_leader(bus: &Bus) -> Result<Option<Beat>, BusError> {
    let mut messages = bus.subscribe(bus.own_subjects().beat()).await?;
    let next = tokio::time::timeout(4 * BEAT_EVERY, messages.next()).await;
    Ok(next.ok().flatten().and_then(|message| Beat::read(&message.payload)))
}

impl LeaderWatch {
    /// Listens from now on.
    pub(crate) async fn start(bus: &Bus, patience: Duration) -> Result<Self, BusError> {
        let messages = bus.subscribe(bus.own_subjects().beat()).await?;
        let received = Instant::now().checked_sub(patience.saturating_sub(FIRST_WAIT));
        let received = received.unwrap_or_else(Instant::now);
        Ok(Self { messages, patience, received, last: None, end: 0 })
    }

    /// Waits until a node should claim: no leader sent a beat for too long, or it gave up.
    pub(crate) async fn wait(&mut self, own: u64) {
        let patience = self.patience + JITTER.mul_f64(fastrand::f64());
        loop {
            let left = patience.saturating_sub(self.received.elapsed());
            match tokio::time::timeout(left, self.messages.next()).await {
                Err(_) => return,
                Ok(Some(message)) => self.note_beat(&message.payload),
                // The client is closed: the process stops.
                Ok(None) => tokio::time::sleep(left).await,
            }
            if self.last.as_ref().is_some_and(|beat| beat.is_released && beat.claim != own) {
                self.last = None;
                return;
            }
        }
    }

    /// Takes what came meanwhile, without a wait.
    pub(crate) fn catch_up(&mut self) {
        while let Some(Some(message)) = futures_util::FutureExt::now_or_never(self.messages.next())
        {
            self.note_beat(&message.payload);
        }
    }

    fn note_beat(&mut self, payload: &[u8]) {
        let Some(beat) = Beat::read(payload) else { return };
        let is_former = self.last.as_ref().is_some_and(|last| beat.claim < last.claim)
            && self.received.elapsed() < self.patience;
        if is_former {
            return;
        }
        (self.received, self.end) = (Instant::now(), self.end.max(beat.end));
        self.last = Some(beat);
    }

    /// Waits again, as after a claim that failed.
    pub(crate) fn restart(&mut self) {
        self.received = Instant::now();
    }

    /// Whether another node leads by this claim or a later one.
    pub(crate) fn has_successor(&self, claim: u64, own: u64) -> bool {
        let is_later = |beat: &Beat| beat.claim >= claim && beat.claim != own && !beat.is_released;
        self.last.as_ref().is_some_and(is_later) && self.received.elapsed() < self.patience
    }

    /// The greatest sequence that the log has had, as far as this node knows.
    pub(crate) fn greatest_end(&self) -> u64 {
        self.end
    }

    /// Notes the end of the log that this node has written or read itself.
    pub(crate) fn note_end(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// Forgets ends beyond this one: the loss has been noted in the log.
    pub(crate) fn reset_end(&mut self, end: u64) {
        self.end = end;
    }
}

#[cfg(test)]
mod tests {
    use testkit::{eventually, nats::Nats};

    use super::*;
    use crate::stream::bus::tests::{bus, patience::beat};

    async fn send(bus: &Bus, claim: u64, end: u64) {
        let message = serde_json::to_vec(&beat(claim, end)).expect("JSON");
        bus.publish(bus.own_subjects().beat(), message.into()).await.expect("sent");
    }

    async fn has_end(watch: &mut LeaderWatch, end: u64) {
        let watch = parking_lot::Mutex::new(watch);
        eventually("the last beat", || async {
            let mut watch = watch.lock();
            watch.catch_up();
            (watch.greatest_end() >= end).then_some(())
        })
        .await;
        assert_eq!(watch.lock().greatest_end(), end);
    }

    #[tokio::test]
    async fn a_standby_follows_an_earlier_claim_once_the_former_leader_is_silent() {
        let nats = Nats::start().await;
        let bus = bus(&nats).await;
        let mut watch =
            LeaderWatch::start(&bus, Duration::from_secs(3_600)).await.expect("a watch");
        // One of a former leader that was paused is between two of the leader.
        for (claim, end) in [(20, 100), (10, 900), (20, 101)] {
            send(&bus, claim, end).await;
        }
        has_end(&mut watch, 101).await;
        assert!(watch.has_successor(15, 0));
        // The log lost the claim 20, and the leader is silent for longer than a standby waits.
        watch.patience = Duration::ZERO;
        send(&bus, 10, 102).await;
        has_end(&mut watch, 102).await;
        watch.patience = Duration::from_secs(3_600);
        assert!(watch.has_successor(10, 0) && !watch.has_successor(15, 0));
    }
}
