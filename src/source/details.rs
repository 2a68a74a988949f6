//! What the outbox names without a payload: read from the game's table, and put on the stream.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use super::{
    Capture, CaptureError,
    cursor::{Given, moment},
    listener::Listening,
    rows::OutboxRow,
};
use crate::{
    ops::telemetry::metrics::{BySkipped, Skipped, Source},
    postgres::rows::DecodedRound,
    stream::{
        hub::Captured,
        round::{Round, RoundId},
    },
};

impl Capture {
    /// Returns how many of the `given` rounds these rows tell of.
    pub(super) async fn read_and_publish(
        &mut self,
        listening: &Listening,
        rows: &[OutboxRow],
        given: &Given,
        source: Source,
    ) -> Result<usize, CaptureError> {
        let ids: HashSet<RoundId> = rows.iter().map(|row| row.finish().1).collect();
        let ids: Vec<RoundId> = ids.into_iter().collect();
        let (read, unreadable) = read_apart(listening, &ids).await?;
        let out_of_range: Vec<RoundId> =
            read.iter().filter_map(|read| read.as_ref().err().copied()).collect();
        let rounds: HashMap<RoundId, Round> =
            read.into_iter().flatten().map(|round| (round.round_id, round)).collect();
        // Of both there are none, nearly always.
        let skipped: HashSet<_> = out_of_range.iter().chain(&unreadable).collect();
        let is_gone = |id: &RoundId| !rounds.contains_key(id) && !skipped.contains(id);
        let deleted: Vec<RoundId> = ids.into_iter().filter(is_gone).collect();
        self.count_skipped(Skipped::out_of_range, &out_of_range);
        self.count_skipped(Skipped::unreadable, &unreadable);
        self.count_skipped(Skipped::deleted, &deleted);
        self.learn_games(listening, rounds.values()).await?;
        let mut new = Vec::with_capacity(rows.len());
        let mut met = 0;
        for row in rows {
            match rounds.get(&row.finish().1).cloned() {
                // Deleted: its row in the outbox tells that it was there.
                None => met += usize::from(given.has_round(row.finish().1)),
                Some(round) if given.has_moment(moment(&round)) => met += 1,
                Some(round) => {
                    self.progress()?.cursor.delivered_by_poll(row.recorded, round.finished_at);
                    self.parts.metrics.commit_to_decode_seconds.observe(row.age.as_secs_f64());
                    let recorded = Instant::now().checked_sub(row.age);
                    let (xid, before) = (row.finish().0, row.before);
                    new.push(Captured { round, xid, before, recorded });
                }
            }
        }
        self.publish(new, source);
        Ok(met)
    }

    /// Reads the games again where a round is of one that is new, so that whoever asks for its type
    /// is told of it from now on.
    async fn learn_games(
        &mut self,
        listening: &Listening,
        mut rounds: impl Iterator<Item = &Round>,
    ) -> Result<(), CaptureError> {
        let games = &self.parts.games;
        if !self.has_read_games && rounds.any(|round| games.by_id(round.game_id).is_none()) {
            self.has_read_games = true;
            games.replace(listening.games().await?);
        }
        Ok(())
    }

    fn count_skipped(&self, reason: Skipped, ids: &[RoundId]) {
        if let Some(first) = ids.first() {
            let (label, count) = (BySkipped { reason }, ids.len());
            self.parts.metrics.rounds_skipped_total.get_or_create(&label).inc_by(count as u64);
            tracing::warn!(
                count,
                ?reason,
                round.id = first.0,
                "finished rounds that cannot be streamed, the first of them"
            );
        }
    }
}

/// Reads rounds, and names those that cannot be: one row over which the view's expressions fail must
/// not hold up all others. Halving finds it among 1,000 in some twenty queries.
async fn read_apart(
    listening: &Listening,
    ids: &[RoundId],
) -> Result<(Vec<DecodedRound>, Vec<RoundId>), CaptureError> {
    let (mut read, mut unreadable) = (Vec::with_capacity(ids.len()), Vec::new());
    let mut pending = vec![ids];
    while let Some(ids) = pending.pop() {
        match (listening.rounds(ids).await, ids) {
            (Ok(rounds), _) => read.extend(rounds),
            (Err(error), [id]) if error.is_of_data() => {
                tracing::error!(%error, round.id = id.0, "a finished round cannot be read");
                unreadable.push(*id);
            }
            (Err(error), ids) if error.is_of_data() => {
                let (first, second) = ids.split_at(ids.len() / 2);
                pending.extend([second, first]);
            }
            (Err(error), _) => return Err(error),
        }
    }
    Ok((read, unreadable))
}
