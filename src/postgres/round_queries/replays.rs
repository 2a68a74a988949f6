//! The rounds of a replay, without their content but with its size.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sqlx::{
    AssertSqlSafe, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{RoundQueries, fails_of_data, named};
use crate::{
    ops::{halves::Halves, telemetry::metrics::Skipped},
    postgres::{
        rows::{self, Columns},
        sql::sql,
    },
    stream::{
        round::{GameId, RoundId},
        round_store::StoredRounds,
        transaction::{Finish, RoundName, Xid},
    },
};

impl RoundQueries {
    pub(super) async fn read_replay(
        &self,
        from: Xid,
        games: Option<&[GameId]>,
        limit: usize,
        snapshot: &str,
    ) -> Result<StoredRounds, sqlx::Error> {
        let bound = |query: Query<'static, Postgres, PgArguments>| {
            let (numbers, texts) = games.map(GameId::by_kind).unzip();
            let most = i64::try_from(limit).unwrap_or(i64::MAX);
            let query = query.bind(from.0.cast_signed()).bind(numbers).bind(texts).bind(most);
            match &self.read_only {
                None => query.bind(snapshot.to_owned()),
                Some(source) => query.bind(source.overlap_micros),
            }
        };
        let replay = match &self.read_only {
            None => sql!("replay").to_owned(),
            Some(source) => source.query(sql!("read_only/replay")),
        };
        let query = sqlx::query(AssertSqlSafe(replay.clone()));
        match self.fetch(&self.pools.replays, bound(query)).await {
            Err(error) if fails_of_data(&error) => {
                let query = sqlx::query(AssertSqlSafe(unmeasured(&replay)));
                let found = self.fetch(&self.pools.replays, bound(query)).await?;
                self.measured(self.stored_rounds(found, limit)?).await
            }
            found => Ok(self.without_large(self.stored_rounds(found?, limit)?)),
        }
    }

    /// Sets the type of each round's game and the bytes of its extras. Halving finds the rounds that
    /// cannot be read.
    async fn measured(&self, mut stored: StoredRounds) -> Result<StoredRounds, sqlx::Error> {
        let names: Vec<RoundName> = stored.rounds.iter().map(|round| round.finish.name()).collect();
        let (mut sizes, mut halves) = (HashMap::new(), Halves::of(&names));
        while let Some(part) = halves.next_part() {
            match self.read_sizes(part).await {
                Ok(found) => sizes.extend(found),
                Err(error) if fails_of_data(&error) => {
                    if let Some((attachment, id)) = halves.split(part) {
                        self.count_unreadable(&error, *attachment, id);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        stored.rounds.retain_mut(|round| match sizes.get(&round.finish.name()) {
            Some((kind, bytes)) => {
                round.game.1 = Arc::clone(kind);
                round.extras_bytes = *bytes;
                true
            }
            None => false,
        });
        Ok(self.without_large(stored))
    }

    /// The type of each round's game, and the bytes of its extras.
    async fn read_sizes(
        &self,
        names: &[RoundName],
    ) -> Result<Vec<(RoundName, (Arc<str>, usize))>, sqlx::Error> {
        let query = named(self.query(sql!("extras_bytes"), sql!("read_only/extras_bytes")), names);
        let found = self.fetch(&self.pools.replays, query).await?;
        let mut sizes = Vec::with_capacity(found.len());
        for row in &found {
            // An id that cannot be sent is none of those that were asked for.
            let Ok(id) = rows::round_id(row)? else { continue };
            let attachment = rows::attachment(row)?;
            let Some(kind) = row.maybe_text("game_type")? else {
                self.skipped.skip_again(Skipped::unreadable, attachment, &id);
                continue;
            };
            let size = usize::try_from(row.bigint("extras_bytes")?).unwrap_or(0);
            sizes.push(((attachment, id), (kind.into(), size)));
        }
        Ok(sizes)
    }

    /// The rounds that can be sent; the others are counted. If there is no round, a single row with a
    /// null `attachment` has the `trimmed` column.
    fn stored_rounds(
        &self,
        mut found: Vec<PgRow>,
        limit: usize,
    ) -> Result<StoredRounds, sqlx::Error> {
        let trimmed = found.first().map(|row| rows::xid(row, "trimmed")).transpose()?;
        found.retain(|row| {
            matches!(row.try_get::<Option<i32>, _>("attachment"), Ok(Some(_)) | Err(_))
        });
        let (is_full, mut kinds) = (found.len() >= limit, HashSet::new());
        let mut rounds = Vec::with_capacity(found.len());
        for row in &found {
            match rows::stored(row, &mut kinds)? {
                Ok(round) => rounds.push(round),
                Err(unsendable) => {
                    let id = rows::round_id(row)?.unwrap_or(RoundId::number(0));
                    self.skipped.skip_again(unsendable.reason(), rows::attachment(row)?, &id);
                }
            }
        }
        Ok(StoredRounds { rounds, is_full, trimmed: trimmed.unwrap_or_default() })
    }

    /// Without the rounds that are longer than a round may be. They are counted.
    fn without_large(&self, mut stored: StoredRounds) -> StoredRounds {
        let most = self.skipped.max_round();
        stored.rounds.retain(|round| {
            let fits = round.extras_bytes <= most;
            if !fits {
                let Finish { attachment, round, .. } = &round.finish;
                self.skipped.skip_again(Skipped::too_large, *attachment, round);
            }
            fits
        });
        stored
    }
}

/// The query of a replay without the bytes of the extras: it evaluates no content.
fn unmeasured(replay: &str) -> String {
    let replay = replay.replace("octet_length(f.extras)::bigint", "0::bigint");
    replay.replace("f.game_type,", "''::text as game_type,")
}
