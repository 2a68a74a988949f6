//! The rounds that a start of the read-only mode loads: the newest of each game, as far as the memory
//! for them goes.

use std::collections::HashMap;

use super::{
    captured,
    queries::{ReadOnlyQueries, RecentKey, RecentKeys},
    round_name, transaction,
};
use crate::{
    source::{content_reader::ChunkSize, error::CaptureError, poll::Content},
    stream::{frame::encoded_bytes, hub::Captured, transaction::Xid},
};

/// The rounds that were taken.
#[derive(Debug)]
pub(super) struct RecentRounds {
    rounds: Vec<Captured>,
    /// How many of each game.
    taken: HashMap<i64, usize>,
    per_game: usize,
    bytes: usize,
    bytes_max: usize,
    /// The transaction up to which some may be missing.
    floor: Xid,
}

impl RecentRounds {
    /// Takes none yet; at most `per_game` of each game, and `bytes_max` besides the latest of each.
    pub(super) fn new(per_game: i64, bytes_max: usize) -> Self {
        let per_game = usize::try_from(per_game).unwrap_or(usize::MAX);
        let (rounds, taken) = (Vec::new(), HashMap::new());
        Self { rounds, taken, per_game, bytes: 0, bytes_max, floor: Xid(0) }
    }

    /// Reads the rounds of these keys; returns them oldest first.
    pub(super) async fn read(
        mut self,
        recent: RecentKeys,
        queries: ReadOnlyQueries<'_>,
    ) -> Result<(Vec<Captured>, Xid), CaptureError> {
        self.floor = recent.cut_micros.map_or(Xid(0), transaction);
        let mut keys = recent.keys;
        // Again if some cannot be sent: older rounds of their games take their places.
        loop {
            let (wanted, rest) = self.wanted(keys);
            if wanted.is_empty() {
                rest.iter().for_each(|recent| self.leave_out(recent));
                break;
            }
            self.read_wanted(&wanted, queries).await?;
            keys = rest;
        }
        let place = |it: &Captured| (it.round.finished_at, it.round.round_id.clone());
        self.rounds.sort_by_cached_key(place);
        Ok((self.rounds, self.floor))
    }

    async fn read_wanted(
        &mut self,
        mut wanted: &[RecentKey],
        queries: ReadOnlyQueries<'_>,
    ) -> Result<(), CaptureError> {
        let mut size = ChunkSize::default();
        while let Some(first) = wanted.first() {
            if !self.has_room(first.game, 0) {
                self.leave_out(first);
                wanted = &wanted[1..];
                continue;
            }
            let names = wanted.iter().take(size.rounds()).map(|recent| round_name(&recent.key));
            let names: Vec<_> = names.collect();
            let (mut contents, read) = queries.contents(&names, &mut size).await?;
            for (recent, name) in wanted.iter().zip(&names[..read]) {
                let content = contents.remove(name).unwrap_or(Content::Missing);
                self.take(recent, content, queries);
            }
            wanted = &wanted[read..];
        }
        Ok(())
    }

    /// The keys whose rounds have room, and the others.
    fn wanted(&self, keys: Vec<RecentKey>) -> (Vec<RecentKey>, Vec<RecentKey>) {
        let mut planned: HashMap<i64, usize> = HashMap::new();
        keys.into_iter().partition(|recent| {
            let planned = planned.entry(recent.game).or_default();
            let has_room = self.has_room(recent.game, *planned);
            *planned += usize::from(has_room);
            has_room
        })
    }

    /// Whether one more round of a game has room, besides so many that are to be read. The latest of
    /// each game always has.
    fn has_room(&self, game: i64, planned: usize) -> bool {
        let taken = self.taken(game) + planned;
        taken == 0 || taken < self.per_game && self.bytes < self.bytes_max
    }

    fn taken(&self, game: i64) -> usize {
        self.taken.get(&game).copied().unwrap_or_default()
    }

    /// A ring buffer that is full may lack older rounds anyway.
    fn leave_out(&mut self, recent: &RecentKey) {
        if self.taken(recent.game) < self.per_game {
            self.floor = self.floor.max(transaction(recent.key.finished_at.micros()));
        }
    }

    fn take(&mut self, recent: &RecentKey, content: Content, queries: ReadOnlyQueries<'_>) {
        if let Some(reason) = content.skipped() {
            let (attachment, id) = round_name(&recent.key);
            queries.skipped.skip_again(reason, attachment, &id);
        }
        match content {
            Content::Round(round) if self.has_room(recent.game, 0) => {
                self.bytes += encoded_bytes(round.extras.len());
                *self.taken.entry(recent.game).or_default() += 1;
                self.rounds.push(captured(*round, queries.source.overlap_micros, 0));
            }
            _ => self.leave_out(recent),
        }
    }
}
