//! A log whose end was lost and written again.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use super::{Edge, PATIENCE, Progress};
use crate::stream::bus::{
    BusError,
    log::Log,
    read::{Ends, ReadFrom},
};

/// Messages that an edge goes back at first, and how many times more if that is not enough.
const GO_BACK: u64 = 1_000;
const FARTHER: u64 = 10;

/// The end of the log, and the place of the edge before it asked.
#[derive(Clone, Copy, Debug)]
pub(in crate::stream::bus) struct Looked {
    ends: Ends,
    last: u64,
    moves: u64,
}

impl<L: Log> Edge<L> {
    /// Looks at the end of the log after a while. While NATS elects a leader there is no answer, and
    /// the edge goes on meanwhile.
    pub(in crate::stream::bus) fn look_in(
        &self,
        wait: Duration,
    ) -> impl Future<Output = Result<Looked, BusError>> + Send + use<L> {
        let (log, last, moves) = (self.settings.log.clone(), self.place.last, self.moves);
        async move {
            tokio::time::sleep(wait).await;
            Ok(Looked { ends: log.ends().await?, last, moves })
        }
    }

    /// Compares this place with the end of the log: NATS may have lost what it sent.
    pub(in crate::stream::bus) async fn compare(&mut self, looked: Looked) -> Result<(), BusError> {
        let Looked { ends, last, moves } = looked;
        let metrics = &self.settings.metrics.bus;
        metrics.end.set(ends.last.cast_signed());
        metrics.position.set(self.place.last.cast_signed());
        metrics.lag_messages.set(ends.last.saturating_sub(self.place.last).cast_signed());
        if ends.last < last && moves == self.moves {
            return self.go_back().await;
        }
        if ends.last > self.place.last {
            self.missing_since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// The log was written again behind what this edge has read: it goes back to where both agree,
    /// reads on from there, and leaves out the rounds that it has (E2). During a fill too: replicas may have
    /// different messages in a stretch for ever, and a new fill would meet them again.
    pub(in crate::stream::bus) async fn go_back(&mut self) -> Result<(), BusError> {
        self.moves += 1;
        // A closed edge has delivered nothing in the order that was lost: the others need not know.
        if matches!(self.progress, Progress::Open) {
            self.settings.metrics.bus.rewritten_total.inc();
            self.settings.log.report_loss(self.place.last).await;
            tracing::warn!(
                last = self.place.last,
                "NATS lost messages that it had acknowledged: reading the end of the log again"
            );
        }
        self.flush();
        self.waiting.clear();
        self.assembly.reset();
        self.share_rewritten();
        match self.last_agreed().await? {
            Some(seq) => {
                self.place.go_back_to(seq);
                self.term = 0;
            }
            None => return self.start_over("another log than the one that was read").await,
        }
        self.missing_since = Instant::now().checked_sub(PATIENCE);
        Ok(())
    }

    /// Resume points so far may be answered in another order by other edges.
    pub(super) fn share_rewritten(&mut self) {
        (self.is_rewriting, self.whole_at) = (true, None);
        self.settings.publisher.share(true);
    }

    /// Takes a mark. `is_whole`: its leader has appended again everything that NATS lost before it.
    pub(super) fn note_mark(&mut self, is_whole: bool) {
        if self.is_rewriting && is_whole {
            self.whole_at = Some(self.place.last);
        }
        self.end_rewriting();
    }

    /// The order is that of other edges again once everything is read that a leader had appended again.
    pub(super) fn end_rewriting(&mut self) {
        if self.whole_at.is_some_and(|end| end <= self.place.last) {
            (self.is_rewriting, self.whole_at) = (false, None);
        }
    }

    /// The last message that is in the log as it was read.
    async fn last_agreed(&self) -> Result<Option<u64>, BusError> {
        let ends = self.settings.log.ends().await?;
        let Some(oldest) = self.place.oldest() else { return Ok(None) };
        let (end, mut back) = (self.place.last.min(ends.last), GO_BACK);
        loop {
            let from = end.saturating_sub(back).max(oldest);
            let agreed = self.agreed_from(from, end).await?;
            if agreed.is_some() || from == oldest {
                return Ok(agreed);
            }
            back *= FARTHER;
        }
    }

    /// The last message up to which both agree, if they do at the first one.
    async fn agreed_from(&self, from: u64, end: u64) -> Result<Option<u64>, BusError> {
        let (mut next, mut agreed) = (from, None);
        while next <= end {
            let entries = self.settings.log.read(ReadFrom::Sequence(next)).await?;
            for entry in &entries {
                if entry.seq != next || !self.place.has_read(entry) {
                    return Ok(agreed);
                }
                (agreed, next) = (Some(entry.seq), entry.seq + 1);
            }
            if entries.is_empty() {
                break;
            }
        }
        Ok(agreed)
    }
}
