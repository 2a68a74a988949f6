//! SQL reads for clients: games, round lists, and replays of rounds that are no longer in the ring
//! buffers. Every query is a file in `sql/`.

use std::collections::HashMap;

use futures_util::FutureExt;
use sqlx::{
    AssertSqlSafe, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{pool::Pool, read_only::Source, rows, sql::sql};
use crate::{
    ops::telemetry::metrics::Metrics,
    stream::{
        round::{Game, GameId, Round, RoundId, UnixMillis},
        round_store::{Answer, RoundStore, StoreError, StoredRounds},
        transaction::Xid,
    },
};

/// Reads of the database. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct RoundQueries {
    pool: Pool,
    metrics: Metrics,
    /// In the read-only mode: the operator's queries instead of our views.
    read_only: Option<Source>,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(_) => Self::Refused(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl RoundQueries {
    /// Reads through this pool.
    pub(crate) fn new(pool: Pool, metrics: Metrics) -> Self {
        Self { pool, metrics, read_only: None }
    }

    /// Reads with the operator's queries, for a database without our schema.
    pub(crate) fn read_only(pool: Pool, metrics: Metrics, source: Source) -> Self {
        Self { pool, metrics, read_only: Some(source) }
    }

    /// The query over our views, or the one with the same columns over the operator's queries.
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

    fn with_overlap<'q>(
        &self,
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        match &self.read_only {
            None => query,
            Some(source) => query.bind(source.overlap_micros),
        }
    }

    /// Runs and counts a query.
    async fn fetch(
        &self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        self.metrics.database_queries_total.inc();
        self.pool.fetch_all(query).await
    }

    /// All games, by id. Not counted: maintenance asks too.
    pub(super) async fn read_games(&self) -> Result<Vec<Game>, sqlx::Error> {
        let (ours, read_only) = (sql!("games"), sql!("read_only/games"));
        let found = self.pool.fetch_all(self.query(ours, read_only)).await?;
        found.iter().filter_map(|row| rows::game(row).transpose()).collect()
    }

    async fn read_rounds_before(
        &self,
        game: &GameId,
        before: Option<&RoundId>,
        limit: i64,
    ) -> Result<Vec<Round>, sqlx::Error> {
        let query = self.query(sql!("rounds_before"), sql!("read_only/rounds_before"));
        let query = query.bind(game.as_number()).bind(game.as_text());
        let query = query.bind(before.and_then(RoundId::as_number));
        let query = query.bind(before.and_then(RoundId::as_text)).bind(limit);
        let found = self.fetch(query).await?;
        let now = UnixMillis::now();
        let rounds = found.iter().map(|row| rows::round(row, now));
        Ok(rounds.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    async fn read_resume_points(
        &self,
        rounds: &[RoundId],
    ) -> Result<HashMap<RoundId, Xid>, sqlx::Error> {
        let (numbers, texts) = RoundId::by_kind(rounds);
        let query = self.query(sql!("resume_points"), sql!("read_only/resume_points"));
        let found = self.fetch(self.with_overlap(query.bind(numbers).bind(texts))).await?;
        let mut points = HashMap::with_capacity(found.len());
        for row in &found {
            if let Ok(round) = rows::round_id(row)? {
                points.insert(round, rows::xid(row, "before")?);
            }
        }
        Ok(points)
    }

    async fn read_replay(
        &self,
        from: Xid,
        games: Option<&[GameId]>,
        limit: usize,
        snapshot: &str,
    ) -> Result<StoredRounds, sqlx::Error> {
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let (ours, read_only) = (sql!("replay"), sql!("read_only/replay"));
        let query = self.query(ours, read_only);
        let (numbers, texts) = games.map(GameId::by_kind).unzip();
        let query = query.bind(from.0.cast_signed()).bind(numbers).bind(texts).bind(most);
        let query = match &self.read_only {
            None => query.bind(snapshot),
            Some(source) => query.bind(source.overlap_micros),
        };
        stored_rounds(self.fetch(query).await?, limit)
    }
}

/// If there is no round, a single row with a null `attachment` has the `trimmed` column.
fn stored_rounds(mut found: Vec<PgRow>, limit: usize) -> Result<StoredRounds, sqlx::Error> {
    let trimmed = found.first().map(|row| rows::xid(row, "trimmed")).transpose()?;
    found.retain(|row| matches!(row.try_get::<Option<i32>, _>("attachment"), Ok(Some(_)) | Err(_)));
    let now = UnixMillis::now();
    let rounds = found.iter().filter_map(|row| rows::captured(row, now).transpose());
    let is_full = found.len() >= limit;
    let trimmed = trimmed.unwrap_or_default();
    Ok(StoredRounds { rounds: rounds.collect::<Result<_, _>>()?, is_full, trimmed })
}

impl RoundStore for RoundQueries {
    fn games(&self) -> Answer<'_, Vec<Game>> {
        self.metrics.database_queries_total.inc();
        async { Ok(self.read_games().await?) }.boxed()
    }

    fn rounds_before<'a>(
        &'a self,
        game: &'a GameId,
        before: Option<&'a RoundId>,
        limit: i64,
    ) -> Answer<'a, Vec<Round>> {
        async move { Ok(self.read_rounds_before(game, before, limit).await?) }.boxed()
    }

    fn resume_points<'a>(&'a self, rounds: &'a [RoundId]) -> Answer<'a, HashMap<RoundId, Xid>> {
        async { Ok(self.read_resume_points(rounds).await?) }.boxed()
    }

    fn replay<'a>(
        &'a self,
        from: Xid,
        games: Option<&'a [GameId]>,
        limit: usize,
        snapshot: &'a str,
    ) -> Answer<'a, StoredRounds> {
        async move { Ok(self.read_replay(from, games, limit, snapshot).await?) }.boxed()
    }
}
