//! Finished rounds that cannot be sent: counted once by this process, on whichever path they are met,
//! and logged with their table.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    ops::{
        recent_set::RecentSet,
        telemetry::metrics::{BySkipped, Metrics, Skipped},
    },
    stream::{
        round::{GameId, RoundId},
        transaction::Attachment,
    },
};

/// At most one line in this time for each reason.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// Rounds that are remembered as counted. One that is met again after so many others counts again.
const COUNTED_MAX: usize = 65_536;

/// Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct SkippedRounds {
    state: Arc<Mutex<State>>,
    metrics: Metrics,
    max_round: usize,
}

#[derive(Debug, Default)]
struct State {
    counted: RecentSet<(Attachment, RoundId), COUNTED_MAX>,
    reported: Vec<(Skipped, Instant)>,
    tables: HashMap<Attachment, String>,
    /// The games that could not be read the last time.
    unreadable_games: HashSet<GameId>,
}

impl SkippedRounds {
    /// For rounds with at most so many bytes of extras.
    pub fn new(metrics: Metrics, max_round: usize) -> Self {
        Self { state: Arc::default(), metrics, max_round }
    }

    /// The most bytes of a round's extras.
    pub(crate) fn max_round(&self) -> usize {
        self.max_round
    }

    /// Takes the names of the attached tables, for log lines.
    pub(crate) fn name_tables(&self, tables: HashMap<Attachment, String>) {
        self.state.lock().tables = tables;
    }

    /// Logs the games that cannot be read, unless they could not be read the last time either.
    pub(crate) fn report_games(&self, unreadable: &[(GameId, String)]) {
        let ids = unreadable.iter().map(|(id, _)| id.clone()).collect();
        let before = std::mem::replace(&mut self.state.lock().unreadable_games, ids);
        for (id, error) in unreadable.iter().filter(|(id, _)| !before.contains(id)) {
            tracing::warn!(game.id = %id, %error, "a game cannot be read: its rounds are skipped");
        }
    }

    /// Whether this table has a name.
    pub(crate) fn knows_table(&self, attachment: Attachment) -> bool {
        self.state.lock().tables.contains_key(&table(attachment))
    }

    /// Counts a round, which a live path meets once for each time that it finishes.
    pub(crate) fn skip(&self, reason: Skipped, attachment: Attachment, id: &RoundId) {
        self.state.lock().remember(attachment, id);
        self.count(reason, attachment, id);
    }

    /// Counts a round that a read of older rounds meets, unless it was counted before.
    pub(crate) fn skip_again(&self, reason: Skipped, attachment: Attachment, id: &RoundId) {
        if self.state.lock().remember(attachment, id) {
            self.count(reason, attachment, id);
        }
    }

    fn count(&self, reason: Skipped, attachment: Attachment, id: &RoundId) {
        self.metrics.rounds_skipped_total.get_or_create(&BySkipped { reason }).inc();
        let mut state = self.state.lock();
        state.reported.retain(|(_, at)| at.elapsed() < LOG_EVERY);
        if state.reported.iter().all(|(reported, _)| *reported != reason) {
            state.reported.push((reason, Instant::now()));
            let table = state.tables.get(&table(attachment)).map_or("", String::as_str);
            tracing::warn!(
                ?reason, round.table = table, round.id = %id,
                "a finished round cannot be sent: skipped"
            );
        }
    }
}

impl State {
    /// Whether the round is new.
    fn remember(&mut self, attachment: Attachment, id: &RoundId) -> bool {
        self.counted.insert((table(attachment), id.clone()))
    }
}

/// The table of an outbox row. Its number is negative if the round's id cannot be sent.
fn table(attachment: Attachment) -> Attachment {
    Attachment(attachment.0.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_counts_once_on_the_paths_that_read_it_again() {
        let metrics = Metrics::default();
        let skipped = SkippedRounds::new(metrics.clone(), 1 << 20);
        let unreadable = || {
            let label = BySkipped { reason: Skipped::unreadable };
            metrics.rounds_skipped_total.get_or_create(&label).get()
        };
        let (one, two) = (RoundId::number(1), RoundId::number(2));
        skipped.skip(Skipped::unreadable, Attachment(1), &one);
        skipped.skip_again(Skipped::unreadable, Attachment(1), &one);
        assert_eq!(unreadable(), 1);
        skipped.skip_again(Skipped::unreadable, Attachment(1), &two);
        skipped.skip_again(Skipped::unreadable, Attachment(2), &two);
        assert_eq!(unreadable(), 3);
        skipped.skip(Skipped::unreadable, Attachment(1), &one);
        assert_eq!(unreadable(), 4, "it finished again");
    }
}
