//! What is read from the database for clients: games, round lists, and replays that go further
//! back than memory. Every query is a file in `sql/`.

use std::collections::HashMap;

use sqlx::{
    AssertSqlSafe, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use crate::{
    ops::telemetry::metrics::Metrics,
    postgres::{pool::Pool, read_only::Source},
    stream::{
        hub::{Captured, Xid},
        round::{FinishedAt, Game, GameId, Round, RoundId, UnixMillis},
    },
};

/// Why a read failed.
pub type HistoryError = sqlx::Error;

/// Whether the database itself refused: then it is there, and another query may do better.
pub fn is_answer(error: &HistoryError) -> bool {
    matches!(error, sqlx::Error::Database(_))
}

/// Reads of the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct History {
    pool: Pool,
    metrics: Metrics,
    /// Without our schema: the operator's own queries in place of our views.
    read_only: Option<Source>,
}

/// The newest rounds after a transaction, in the order of their transactions.
#[derive(Debug)]
pub struct Replay {
    /// Those that can be streamed.
    pub rounds: Vec<Captured>,
    /// Whether there were as many as asked for, so that older ones may have been left out.
    pub is_full: bool,
    /// Rounds of this transaction or an older one may have been trimmed.
    pub trimmed: Xid,
}

impl History {
    /// Reads through this pool.
    pub fn new(pool: Pool, metrics: Metrics) -> Self {
        Self { pool, metrics, read_only: None }
    }

    /// Reads what the operator's own queries tell, where our schema is not there.
    pub fn read_only(pool: Pool, metrics: Metrics, source: Source) -> Self {
        Self { pool, metrics, read_only: Some(source) }
    }

    /// The query over our views, or the one of the same columns over the operator's own.
    fn query(
        &self,
        ours: &'static str,
        read_only: &'static str,
    ) -> Query<'_, Postgres, PgArguments> {
        match &self.read_only {
            None => sqlx::query(ours),
            Some(source) => sqlx::query(AssertSqlSafe(source.query(read_only))),
        }
    }

    /// All games, by id.
    pub async fn games(&self) -> Result<Vec<Game>, HistoryError> {
        self.metrics.database_queries_total.inc();
        let query = self.query(
            include_str!("../../sql/games.sql"),
            include_str!("../../sql/read_only/games.sql"),
        );
        let rows = self.pool.fetch_all(query).await?;
        rows.iter().map(game).collect()
    }

    /// Rounds of a game, newest first, before the named one if given.
    pub async fn rounds_before(
        &self,
        GameId(game): GameId,
        before: Option<RoundId>,
        limit: i64,
    ) -> Result<Vec<Round>, HistoryError> {
        self.metrics.database_queries_total.inc();
        let query = self.query(
            include_str!("../../sql/rounds_before.sql"),
            include_str!("../../sql/read_only/rounds_before.sql"),
        );
        let query = query.bind(game).bind(before.map(|id| id.0)).bind(limit);
        let rows = self.pool.fetch_all(query).await?;
        let now = UnixMillis::now();
        let rounds = rows.iter().map(|row| round(row, now)).collect::<Result<Vec<_>, _>>()?;
        Ok(rounds.into_iter().flatten().collect())
    }

    /// For each of these rounds that the outbox knows: the oldest transaction that was running
    /// when it was recorded.
    pub async fn resume_points(
        &self,
        rounds: &[RoundId],
    ) -> Result<HashMap<RoundId, Xid>, HistoryError> {
        self.metrics.database_queries_total.inc();
        let ids: Vec<i64> = rounds.iter().map(|id| id.0).collect();
        let query = self
            .query(
                include_str!("../../sql/resume_points.sql"),
                include_str!("../../sql/read_only/resume_points.sql"),
            )
            .bind(ids);
        let query = self.with_overlap(query);
        let rows = self.pool.fetch_all(query).await?;
        rows.iter()
            .map(|row| Ok((RoundId(row.try_get("round_id")?), xid(row, "before")?)))
            .collect()
    }

    /// Rounds of these games (of all, if `None`) whose transaction is not older than `from`: the
    /// newest `limit` of those that the snapshot sees, oldest first.
    pub async fn replay(
        &self,
        from: Xid,
        games: Option<&[i64]>,
        limit: usize,
        snapshot: &str,
    ) -> Result<Replay, HistoryError> {
        self.metrics.database_queries_total.inc();
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = self.query(
            include_str!("../../sql/replay.sql"),
            include_str!("../../sql/read_only/replay.sql"),
        );
        let query = query.bind(from.0.cast_signed()).bind(games).bind(most);
        let query = match &self.read_only {
            None => query.bind(snapshot),
            Some(source) => query.bind(source.overlap_micros),
        };
        let mut rows = self.pool.fetch_all(query).await?;
        let trimmed = rows.first().map(|row| xid(row, "trimmed")).transpose()?.unwrap_or_default();
        // One without a round tells what has been trimmed where there is none.
        rows.retain(|row| {
            matches!(row.try_get::<Option<i64>, _>("round_id"), Ok(Some(_)) | Err(_))
        });
        let now = UnixMillis::now();
        let rounds = rows.iter().filter_map(|row| captured(row, now).transpose());
        let is_full = rows.len() >= limit;
        Ok(Replay { rounds: rounds.collect::<Result<_, _>>()?, is_full, trimmed })
    }
}

impl History {
    fn with_overlap<'q>(
        &self,
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        match &self.read_only {
            None => query,
            Some(source) => query.bind(source.overlap_micros),
        }
    }
}

fn game(row: &PgRow) -> Result<Game, HistoryError> {
    Ok(Game {
        id: GameId(row.try_get("id")?),
        slug: row.try_get::<&str, _>("slug")?.into(),
        name: row.try_get::<&str, _>("name")?.into(),
        kind: row.try_get::<&str, _>("type")?.into(),
    })
}

fn captured(row: &PgRow, now: UnixMillis) -> Result<Option<Captured>, HistoryError> {
    let (xid, before) = (xid(row, "xid")?, xid(row, "before")?);
    Ok(round(row, now)?.map(|round| Captured { round, xid, before, recorded: None }))
}

fn xid(row: &PgRow, column: &str) -> Result<Xid, HistoryError> {
    row.try_get::<i64, _>(column).map(|id| Xid(id.cast_unsigned()))
}

/// `None` for a round that cannot be written on the wire.
fn round(row: &PgRow, timestamp: UnixMillis) -> Result<Option<Round>, HistoryError> {
    let micros: Option<i64> = row.try_get("finished_micros")?;
    let Some(finished_at) = micros.and_then(FinishedAt::from_micros) else { return Ok(None) };
    Ok(Some(Round {
        round_id: RoundId(row.try_get("round_id")?),
        game_id: GameId(row.try_get("game_id")?),
        game_slug: row.try_get::<&str, _>("game_slug")?.into(),
        game_type: row.try_get::<&str, _>("game_type")?.into(),
        finished_at,
        extras: row.try_get::<&str, _>("extras")?.into(),
        timestamp,
    }))
}
