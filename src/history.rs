//! What is read from the database for clients: games, round lists, and replays that go further
//! back than memory. Every query is a file in `sql/`.

use std::collections::HashMap;

use sqlx::{PgPool, Row, postgres::PgRow};

use crate::{
    hub::{Captured, Xid},
    round::{FinishedAt, Game, GameId, Round, RoundId, UnixMillis},
    telemetry::metrics::Metrics,
};

/// Why a read failed.
pub type HistoryError = sqlx::Error;

/// Reads of the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct History {
    pool: PgPool,
    metrics: Metrics,
}

/// The newest rounds after a transaction, in order.
#[derive(Debug)]
pub struct Replay {
    /// At most as many as asked for: the newest.
    pub rounds: Vec<Captured>,
    /// Transactions from this one on were not seen.
    pub until: Xid,
}

impl History {
    /// Reads through this pool.
    pub fn new(pool: PgPool, metrics: Metrics) -> Self {
        Self { pool, metrics }
    }

    /// All games, by id.
    pub async fn games(&self) -> Result<Vec<Game>, HistoryError> {
        self.metrics.database_queries_total.inc();
        let rows = sqlx::query(include_str!("../sql/games.sql")).fetch_all(&self.pool).await?;
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
        let query = sqlx::query(include_str!("../sql/rounds_before.sql"));
        let query = query.bind(game).bind(before.map(|id| id.0)).bind(limit);
        let rows = query.fetch_all(&self.pool).await?;
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
        let query = sqlx::query(include_str!("../sql/resume_points.sql")).bind(ids);
        let rows = query.fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| Ok((RoundId(row.try_get("round_id")?), xid(row, "before")?)))
            .collect()
    }

    /// Rounds of these games (of all, if `None`) whose transaction is not older than `from`: the
    /// newest `limit` of them, oldest first.
    pub async fn replay(
        &self,
        from: Xid,
        games: Option<&[i64]>,
        limit: i64,
    ) -> Result<Replay, HistoryError> {
        self.metrics.database_queries_total.inc();
        let query = sqlx::query(include_str!("../sql/replay.sql"));
        let query = query.bind(from.0.cast_signed()).bind(games).bind(limit);
        let rows = query.fetch_all(&self.pool).await?;
        let until = rows.first().map_or(Ok(Xid(0)), |row| xid(row, "until"))?;
        let now = UnixMillis::now();
        let rounds = rows.iter().filter_map(|row| captured(row, now).transpose());
        Ok(Replay { rounds: rounds.collect::<Result<_, _>>()?, until })
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

/// A row without a round tells only how far the query saw.
fn captured(row: &PgRow, now: UnixMillis) -> Result<Option<Captured>, HistoryError> {
    if row.try_get::<Option<i64>, _>("round_id")?.is_none() {
        return Ok(None);
    }
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
