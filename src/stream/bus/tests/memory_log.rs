//! A log in memory that loses its tail, lags, refuses and delays, as NATS may.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use crate::stream::bus::{
    BusError,
    append::{AppendError, Appended},
    log::Log,
    outgoing::Outgoing,
    read::{Ends, LogEntry, ReadFrom},
    subject::Subjects,
};

/// What becomes of the next append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is stored, and answered.
    Works,
    /// It is not stored.
    Refused,
    /// It is stored, and the answer is lost.
    AnswerLost,
    /// It arrives later, if it is still behind the end then.
    Delayed,
}

#[derive(Debug)]
struct State {
    entries: BTreeMap<u64, LogEntry>,
    last: u64,
    fate: Fate,
    delayed: Vec<(u64, u64, Vec<Outgoing>)>,
    /// Whether they arrive before the next page of last messages is read.
    delivers_before_page: bool,
    /// Messages at the end that reads do not show yet; each read shows one more.
    lag: u64,
    /// The log before its last loss, with which a replica answers the next reads.
    former: BTreeMap<u64, LogEntry>,
    stale_reads: u64,
    /// What a mirror would have if it had followed.
    original: BTreeMap<u64, LogEntry>,
    /// The log of a replica that kept what was lost. It answers a third of the reads.
    replica: Option<BTreeMap<u64, LogEntry>>,
    rng: fastrand::Rng,
    /// Whether NATS elects a leader, and how often the end was asked for.
    is_electing: bool,
    looks: u32,
}

#[derive(Clone, Debug)]
pub(in crate::stream::bus) struct MemoryLog {
    state: Arc<Mutex<State>>,
    subjects: Subjects,
}

impl MemoryLog {
    pub(in crate::stream::bus) fn new() -> Self {
        let state = State {
            entries: BTreeMap::new(),
            last: 1_000,
            fate: Fate::Works,
            delayed: Vec::new(),
            delivers_before_page: false,
            lag: 0,
            former: BTreeMap::new(),
            stale_reads: 0,
            original: BTreeMap::new(),
            replica: None,
            rng: fastrand::Rng::with_seed(7),
            is_electing: false,
            looks: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), subjects: Subjects::new("datastream") }
    }

    pub(super) fn set_fate(&self, fate: Fate) {
        self.state.lock().fate = fate;
    }

    pub(super) fn set_lag(&self, lag: u64) {
        self.state.lock().lag = lag;
    }

    /// The next reads are answered by a replica that has not lost the end yet.
    pub(super) fn set_stale(&self, reads: u64) {
        self.state.lock().stale_reads = reads;
    }

    /// Whether the log has no leader, which alone names its end.
    pub(in crate::stream::bus) fn set_electing(&self, is_electing: bool) {
        self.state.lock().is_electing = is_electing;
    }

    /// How often the end was asked for.
    pub(in crate::stream::bus) fn looks(&self) -> u32 {
        self.state.lock().looks
    }

    /// The log as a mirror has it that did not follow the last loss.
    pub(super) fn keep_lost(&self) {
        let mut state = self.state.lock();
        let lost = std::mem::take(&mut state.former);
        state.original = state.entries.clone();
        state.entries.extend(lost);
    }

    /// A third of the reads is answered by a replica that kept what was lost, and has what came behind.
    pub(super) fn add_replica_with_lost(&self) {
        let mut state = self.state.lock();
        let mut replica = state.entries.clone();
        replica.extend(std::mem::take(&mut state.former));
        state.replica = Some(replica);
    }

    /// The mirror is deleted and made again.
    pub(super) fn mirror_again(&self) {
        let mut state = self.state.lock();
        state.entries = std::mem::take(&mut state.original);
    }

    /// Loses the last messages, though they were acknowledged.
    pub(super) fn lose(&self, messages: u64) {
        let mut state = self.state.lock();
        state.former = state.entries.clone();
        for _ in 0..messages {
            if state.entries.pop_last().is_some() {
                state.last -= 1;
            }
        }
    }

    /// All messages so far are of this time, in seconds since the epoch. Later ones are new.
    pub(super) fn set_written(&self, time: i64) {
        let time = chrono::DateTime::from_timestamp(time, 0).expect("a time").to_rfc3339();
        for entry in self.state.lock().entries.values_mut() {
            if entry.written().is_none() {
                entry.headers.insert("Nats-Time-Stamp", time.as_str());
            }
        }
    }

    /// The delayed appends arrive.
    pub(super) fn deliver(&self) {
        self.state.lock().deliver();
    }

    /// They arrive before the next page of last messages is read.
    pub(super) fn deliver_before_page(&self) {
        self.state.lock().delivers_before_page = true;
    }

    /// All messages after a sequence, as they are published again.
    pub(super) fn after(&self, seq: u64) -> Vec<LogEntry> {
        self.state.lock().entries.range(seq + 1..).map(|(_, entry)| entry.clone()).collect()
    }
}

impl State {
    fn deliver(&mut self) {
        for (end, claim, messages) in std::mem::take(&mut self.delayed) {
            // Refused if the log has another end by now.
            let _ = self.store(end, claim, messages);
        }
    }

    fn store(
        &mut self,
        end: u64,
        claim: u64,
        messages: Vec<Outgoing>,
    ) -> Result<Appended, AppendError> {
        let mut claims = self.entries.values().rev();
        let last = claims.find(|entry| entry.subject.ends_with(".log.c"));
        if end != self.last || last.map_or(0, |entry| entry.seq) != claim {
            return Err(AppendError::OtherEnd);
        }
        for Outgoing { subject, headers, payload } in messages {
            self.last += 1;
            let entry = LogEntry { seq: self.last, subject, headers, payload };
            self.entries.insert(self.last, entry);
        }
        Ok(Appended { seq: self.last })
    }

    /// What the replica that answers has.
    fn answering(&mut self) -> Vec<LogEntry> {
        if self.stale_reads > 0 && !self.former.is_empty() {
            self.stale_reads -= 1;
            return self.former.values().cloned().collect();
        }
        if let Some(replica) = self.replica.as_ref().filter(|_| self.rng.u8(..3) == 0) {
            let newer = self.entries.range(replica.keys().next_back().map_or(0, |last| last + 1)..);
            let all = replica.values().chain(newer.map(|(_, entry)| entry));
            return all.cloned().collect();
        }
        let shown = self.last - self.lag.min(self.last);
        self.lag = self.lag.saturating_sub(1);
        self.entries.range(..=shown).map(|(_, entry)| entry.clone()).collect()
    }
}

fn unavailable() -> BusError {
    BusError::Unavailable("the stand-in is away".to_owned())
}

impl Log for MemoryLog {
    fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    fn max_payload(&self) -> usize {
        1 << 20
    }

    async fn ends(&self) -> Result<Ends, BusError> {
        let mut state = self.state.lock();
        state.looks += 1;
        if state.is_electing {
            return Err(unavailable());
        }
        let first = state.entries.keys().next().copied().unwrap_or(state.last + 1);
        Ok(Ends { first, last: state.last })
    }

    async fn read(&self, from: ReadFrom) -> Result<Vec<LogEntry>, BusError> {
        let entries = self.state.lock().answering().into_iter();
        let is_due = |entry: &LogEntry| match from {
            ReadFrom::Sequence(seq) => entry.seq >= seq,
            ReadFrom::Time(time) => entry.written().is_none_or(|it| it >= time),
        };
        Ok(entries.skip_while(|entry| !is_due(entry)).take(7).collect())
    }

    async fn subjects_of(&self, filter: &str) -> Result<Vec<String>, BusError> {
        let prefix = filter.trim_end_matches('*');
        let state = self.state.lock();
        let subjects = state.entries.values().map(|entry| entry.subject.clone());
        let found: std::collections::BTreeSet<_> =
            subjects.filter(|subject| subject.starts_with(prefix)).collect();
        Ok(found.into_iter().collect())
    }

    /// Of two subjects, so that there are several pages.
    async fn last_page(
        &self,
        mut subjects: Vec<String>,
        end: u64,
    ) -> Result<(Vec<LogEntry>, Vec<String>), BusError> {
        let rest = subjects.split_off(subjects.len().min(2));
        let mut state = self.state.lock();
        state.lag = 0;
        if std::mem::take(&mut state.delivers_before_page) {
            state.deliver();
        }
        let entries = state.answering();
        if entries.last().map_or(state.last, |entry| entry.seq) < end {
            return Err(unavailable());
        }
        let last = |subject: &String| {
            entries.iter().rev().find(|entry| entry.subject == *subject).cloned()
        };
        Ok((subjects.iter().filter_map(last).collect(), rest))
    }

    async fn report_loss(&self, _last: u64) {}

    async fn append(
        &self,
        end: u64,
        claim: u64,
        messages: Vec<Outgoing>,
    ) -> Result<Appended, AppendError> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut state.fate, Fate::Works) {
            Fate::Works => state.store(end, claim, messages),
            Fate::Refused => Err(unavailable().into()),
            Fate::AnswerLost => {
                state.store(end, claim, messages)?;
                Err(unavailable().into())
            }
            Fate::Delayed => {
                state.delayed.push((end, claim, messages));
                Err(unavailable().into())
            }
        }
    }
}
