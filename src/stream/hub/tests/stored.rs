//! Rounds that only the database has.

use super::*;
use crate::stream::stored_round::StoredRound;

/// The ids of a resumed stream's first rounds: those of the database, then the others.
pub(super) fn resumed_ids(resumed: &Resumed) -> Vec<i64> {
    let stored = resumed.stored.iter().map(|round| round.finish.round.columns().0);
    stored.chain(ids(&resumed.frames)).collect()
}

/// Stored rounds of these captured ones.
pub(super) fn stored<'a>(rounds: impl IntoIterator<Item = &'a Captured>) -> StoredPart {
    let stored = rounds.into_iter().map(|it| StoredRound {
        finish: it.finish(),
        before: it.before,
        game: (it.round.game_id.clone(), Arc::clone(&it.round.game_type)),
        extras_bytes: it.round.extras.len(),
    });
    StoredPart::new(&stored.collect(), |_| true)
}
