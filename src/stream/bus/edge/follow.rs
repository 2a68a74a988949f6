//! Follows the log on NATS: what the stream publishes again, and the leader's beat.

use std::{
    convert::Infallible,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use async_nats::Subscriber;
use futures_util::StreamExt;

use super::{Edge, PATIENCE, Progress, Relation, live::LiveMessages, rewrite::Looked};
use crate::{
    ops::{backoff::Backoff, phase::Phase},
    stream::bus::{BusError, beat::Beat, read::LogEntry},
};

/// Without a beat for so long no node leads, as far as this edge knows. A takeover takes up to 3 s.
const BEAT_WITHIN: Duration = Duration::from_secs(5);
/// The end of the log is compared so often: a stream that lost its tail sends nothing.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// A log that cannot be read for longer makes the edge unready. An election takes up to 9 s.
const READ_WITHIN: Duration = Duration::from_secs(10);
const READ_AGAIN: Duration = Duration::from_millis(250);
/// Messages that are read before they are published together.
const AT_ONCE: usize = 256;
/// Messages that wait have this part of the memory for rounds.
const LIVE_PART: usize = 8;

impl Edge {
    /// Feeds the hub. Before the first fill, it returns an error that waiting cannot fix.
    pub(crate) async fn run(mut self) -> Result<Infallible, BusError> {
        let (mut backoff, mut has_begun) = (Backoff::default(), false);
        loop {
            let Err(error) = self.follow(&mut backoff, &mut has_begun).await;
            if !error.is_passing() && !has_begun {
                return Err(error);
            }
            self.report(&error);
            tokio::time::sleep(backoff.delay()).await;
        }
    }

    fn report(&self, error: &BusError) {
        if Phase::publish_problem(&self.settings.phase, error) {
            tracing::warn!(%error, "cannot read the log; trying again");
        }
    }

    /// Subscribes, fills what is missing, and follows the log.
    async fn follow(
        &mut self,
        backoff: &mut Backoff,
        has_begun: &mut bool,
    ) -> Result<Infallible, BusError> {
        let bus = self.settings.log.clone();
        let subscriber = bus.subscribe(bus.own_subjects().live()).await?;
        let beat_messages = bus.subscribe(bus.own_subjects().beat()).await?;
        let most = self.settings.publisher.history_share() / LIVE_PART;
        let bytes = self.settings.metrics.bus.waiting_bytes.clone();
        let live = LiveMessages::up_to(most, bytes);
        // Also while the edge waits for a direct get, or for its shards.
        tokio::select! {
            error = live.take_from(subscriber) => Err(error),
            ended = self.follow_live(&live, beat_messages, backoff, has_begun) => ended,
        }
    }

    async fn follow_live(
        &mut self,
        live: &LiveMessages,
        mut beat_messages: Subscriber,
        backoff: &mut Backoff,
        has_begun: &mut bool,
    ) -> Result<Infallible, BusError> {
        let bus = self.settings.log.clone();
        let connects = || bus.client().statistics().connects.load(Ordering::Relaxed);
        if self.needs_fill {
            self.fill().await?;
            *has_begun = true;
        }
        let mut verified = connects();
        self.catch_up().await?;
        backoff.reset();
        let mut looking = Box::pin(self.look_in(CHECK_EVERY));
        loop {
            let missing = self.missing_since;
            tokio::select! {
                entry = live.next() => {
                    let verify = verified != connects();
                    if let Err(error) = self.receive_all(entry, live, verify).await {
                        self.tolerate(error)?;
                    }
                }
                message = next(&mut beat_messages) => {
                    if let Some(beat) = Beat::read(&message?.payload) {
                        self.note_beat(beat, BEAT_WITHIN);
                    }
                }
                () = wait_until(missing.map(|since| since + PATIENCE)) => {
                    let now = connects();
                    match self.catch_up().await {
                        Ok(()) => (verified, self.failing) = (now, None),
                        Err(error) => self.tolerate(error)?,
                    }
                }
                looked = &mut looking => {
                    self.take_look(looked).await?;
                    if verified != connects() {
                        self.missing_since.get_or_insert_with(Instant::now);
                    }
                    looking = Box::pin(self.look_in(CHECK_EVERY));
                }
            }
            self.flush();
            self.settings.publisher.wait_for_outlets().await;
            self.show_phase();
        }
    }

    /// Takes the end of the log. That NATS does not know it now says nothing of this edge.
    async fn take_look(&mut self, looked: Result<Looked, BusError>) -> Result<(), BusError> {
        match looked {
            Ok(looked) => match self.compare(looked).await {
                Ok(()) => Ok(()),
                Err(error) => self.tolerate(error),
            },
            Err(error) if error.is_passing() => {
                tracing::debug!(%error, "cannot compare the end of the log now");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Goes on after an error that waiting may fix, and reads again soon.
    fn tolerate(&mut self, error: BusError) -> Result<(), BusError> {
        if !error.is_passing() || self.needs_fill {
            return Err(error);
        }
        tracing::debug!(%error, "cannot read the log now");
        self.failing.get_or_insert_with(|| (Instant::now(), error.to_string()));
        self.missing_since = Some(Instant::now() + READ_AGAIN);
        Ok(())
    }

    /// Takes a message, and those that wait behind it.
    async fn receive_all(
        &mut self,
        first: LogEntry,
        live: &LiveMessages,
        verify: bool,
    ) -> Result<(), BusError> {
        let (mut next, mut received) = (Some(first), 0);
        while let Some(entry) = next {
            if self.receive(entry, verify) == Relation::Rewritten {
                return self.go_back().await;
            }
            received += 1;
            next = if received < AT_ONCE { live.try_next() } else { None };
        }
        Ok(())
    }

    /// Ready: filled, connected, and a leader sends its beat.
    fn show_phase(&self) {
        let received = self.leader.as_ref().map(|(_, at)| at.elapsed());
        let metrics = &self.settings.metrics.bus;
        metrics.beat_age_seconds.set(received.map_or(1e9, |age| age.as_secs_f64()));
        let is_known = received.is_some_and(|age| age < BEAT_WITHIN);
        let is_live = self.leader.as_ref().is_some_and(|(beat, _)| beat.is_live);
        metrics.live.set(i64::from(is_known && is_live));
        let failing = self.failing.as_ref().filter(|(since, _)| since.elapsed() > READ_WITHIN);
        let problem = match &self.progress {
            Progress::Stuck(problem) => Some(problem.clone()),
            _ if !self.settings.log.is_connected() => Some("not connected to NATS".to_owned()),
            _ if !is_known => Some("no capture node sends a beat".to_owned()),
            _ => failing.map(|(_, problem)| problem.clone()),
        };
        let is_open = matches!(self.progress, Progress::Open);
        self.settings.phase.send_if_modified(|phase| {
            let (differs, new) = match (&*phase, problem) {
                (Phase::Connecting { problem: last }, problem @ Some(_)) => {
                    (*last != problem, Phase::Connecting { problem })
                }
                (_, problem @ Some(_)) => (true, Phase::Connecting { problem }),
                (phase, None) if is_open => {
                    let is_live = matches!(phase, Phase::Live { .. });
                    (!is_live, Phase::Live { since: Instant::now() })
                }
                (phase, None) => (!matches!(phase, Phase::CatchingUp), Phase::CatchingUp),
            };
            if differs {
                *phase = new;
            }
            differs
        });
    }
}

async fn next(messages: &mut Subscriber) -> Result<async_nats::Message, BusError> {
    messages.next().await.ok_or_else(|| BusError::Unavailable("the subscription ended".to_owned()))
}

async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
