//! The reads of the read-only mode. Keys come first, without content: one round that PostgreSQL cannot
//! read hides no other, and the content of a round is read once.

use std::collections::HashMap;

use tokio_postgres::{Row, types::Type};

use crate::{
    ops::telemetry::metrics::Skipped,
    postgres::{
        games,
        read_only::{IdTypes, OperatorQueries},
        rows,
        sql::sql,
    },
    source::{
        content_reader::{ChunkSize, ContentReader},
        cursor::RoundKey,
        error::CaptureError,
        games::SessionGames,
        poll::Content,
        session::{Parameter, PreparedQuery, Session, within},
    },
    stream::{
        round::{FinishedAt, Game, RoundId},
        skipped_rounds::SkippedRounds,
        transaction::{Attachment, RoundName},
    },
};

use super::ANSWER_WITHIN;

/// The rounds of all games that a start looks at, besides the newest ten of each.
const RECENT_ROUNDS: i64 = 10_000;
/// The least rounds of a game among which a start looks for one that can be sent.
const SEED_ROUNDS: i64 = 100;
/// The most bytes of an id in the log that cannot be sent.
const SHOWN_ID: usize = 40;

/// Queries on the connection of the capture.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadOnlyQueries<'a> {
    pub(super) session: &'a Session,
    pub(super) source: &'a OperatorQueries,
    pub(super) skipped: &'a SkippedRounds,
}

/// The key of a recent round.
#[derive(Debug)]
pub(super) struct RecentKey {
    pub(super) key: RoundKey,
    /// A number for each game.
    pub(super) game: i64,
}

/// The keys of recent rounds, newest first.
#[derive(Debug, Default)]
pub(super) struct RecentKeys {
    pub(super) keys: Vec<RecentKey>,
    /// The latest finish, in microseconds, of those that are missing because there are too many.
    pub(super) cut_micros: Option<i64>,
}

impl ReadOnlyQueries<'_> {
    /// Learns the types of the ids. PostgreSQL would read a `finished_at` without a time zone in the
    /// session's time zone. Then clients would get seeds, and no later round.
    pub(super) async fn require_time_zone(self) -> Result<(), CaptureError> {
        let query = self.source.query(sql!("read_only/zoned"));
        let row = within(ANSWER_WITHIN, self.session.query_one(&query, &[])).await?;
        let types = IdTypes::of(row.try_get("round_type")?, row.try_get("game_type")?);
        self.source.set_id_types(types.in_encoding(row.try_get("encoding")?));
        match row.try_get("zoned")? {
            true => Ok(()),
            false => Err(CaptureError::Query(
                "finished_at has no time zone (write: finished_at at time zone 'UTC' as finished_at)"
                    .to_owned(),
            )),
        }
    }

    /// All games that can be read.
    pub(super) async fn games(self) -> Result<Vec<Game>, CaptureError> {
        let queries = SessionGames {
            session: self.session,
            keys: self.source.query(sql!("read_only/game_keys")).into(),
            games: self.source.query(sql!("read_only/games")).into(),
            unnamed: self.source.query(&games::query(sql!("read_only/games"), false)).into(),
        };
        games::read(&queries, Some(self.skipped)).await
    }

    /// The database's clock, and the keys of rounds that finished since this time of it.
    pub(super) async fn keys_since(
        self,
        since: Option<i64>,
    ) -> Result<(i64, Vec<RoundKey>), CaptureError> {
        let rows = self.rows(sql!("read_only/keys_since"), &[(&since, Type::INT8)]).await?;
        let now = rows.first().ok_or(CaptureError::Closed)?.try_get("now")?;
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            if row.try_get::<_, Option<i32>>("attachment")?.is_some() {
                keys.extend(self.key(row)?);
            }
        }
        Ok((now, keys))
    }

    /// The keys of the newest rounds of each game.
    pub(super) async fn recent_keys(self, per_game: i64) -> Result<RecentKeys, CaptureError> {
        let per_game = per_game.max(SEED_ROUNDS);
        let parameters: [Parameter<'_>; 2] =
            [(&per_game, Type::INT8), (&RECENT_ROUNDS, Type::INT8)];
        let rows = self.rows(sql!("read_only/recent"), &parameters).await?;
        let mut recent = RecentKeys::default();
        for row in &rows {
            recent.cut_micros = row.try_get("cut_micros")?;
            if let Some(key) = self.key(row)? {
                recent.keys.push(RecentKey { key, game: row.try_get("game")? });
            }
        }
        Ok(recent)
    }

    /// Counts the rounds that cannot be sent and that no other query finds.
    pub(super) async fn count_skipped(self) -> Result<(), CaptureError> {
        for row in &self.rows(sql!("read_only/skipped"), &[]).await? {
            let id = rows::round_id(row)?.unwrap_or_else(|_| shown_id(row));
            let is_bad_id = row.try_get("is_bad_id")?;
            let reason = if is_bad_id { Skipped::bad_id } else { Skipped::out_of_range };
            self.skipped.skip_again(reason, Attachment::default(), &id);
        }
        Ok(())
    }

    /// The content of so many of these rounds as one answer can have, and how many that are.
    pub(super) async fn contents(
        self,
        names: &[RoundName],
        size: &mut ChunkSize,
    ) -> Result<(HashMap<RoundName, Content>, usize), CaptureError> {
        let query =
            PreparedQuery::Unnamed(self.source.query(sql!("read_only/rounds_by_id")).into());
        let existing = self.source.query(sql!("read_only/existing_rows")).into();
        let contents = ContentReader { session: self.session, query: &query, existing };
        loop {
            let chunk = &names[..names.len().min(size.rounds())];
            if let Some(read) = contents.read(chunk, size).await? {
                return Ok((read, chunk.len()));
            }
        }
    }

    async fn rows(
        self,
        query: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, CaptureError> {
        let query = self.source.query(query);
        within(ANSWER_WITHIN, self.session.query(&query, parameters)).await
    }

    /// The key in a row. One that cannot be sent is counted.
    fn key(self, row: &Row) -> Result<Option<RoundKey>, CaptureError> {
        let Ok(round) = rows::round_id(row)? else {
            self.skipped.skip_again(Skipped::bad_id, Attachment::default(), &shown_id(row));
            return Ok(None);
        };
        let micros = row.try_get::<_, Option<i64>>("finished_micros")?;
        let finished_at = micros.and_then(FinishedAt::from_micros);
        Ok(finished_at.map(|finished_at| RoundKey { round, finished_at }))
    }
}

/// An id that cannot be sent, for the log: its beginning.
fn shown_id(row: &Row) -> RoundId {
    let key = row.try_get::<_, Option<&str>>("round_key").ok().flatten().unwrap_or_default();
    let shown = key.chars().map(|c| if c.is_control() { '?' } else { c });
    let shown: String = shown.take(SHOWN_ID).collect();
    RoundId::text(&shown).unwrap_or(RoundId::number(0))
}
