//! SQL reads for clients: games, round lists, and replays of rounds that are no longer in the ring
//! buffers. Every query is a file in `sql/`.

mod replays;

use std::collections::HashMap;

use futures_util::FutureExt;
use sqlx::{
    AssertSqlSafe, Postgres, Row,
    error::DatabaseError,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{
    games::{self, GameQueries},
    pool::Pool,
    read_only::OperatorQueries,
    rows::{self, Columns},
    sql::sql,
    sqlstate,
};
use crate::{
    ops::telemetry::metrics::{Metrics, Skipped},
    stream::{
        list::{ListKey, ListKeys, ListPlace, ListedRounds},
        round::{FinishedAt, Game, GameId, NamedRound, Round, RoundId, UnixMillis},
        round_store::{Answer, RoundStore, StoreError, StoredRounds},
        skipped_rounds::SkippedRounds,
        transaction::{Attachment, RoundName, Xid},
    },
};

/// The connections of each kind of read, so that clients who keep one kind busy delay no other.
#[derive(Clone, Debug)]
pub(crate) struct QueryPools {
    /// For lists of rounds.
    pub lists: Pool,
    /// For replays.
    pub replays: Pool,
    /// For the directory of games.
    pub directory: Pool,
}

impl QueryPools {
    /// The same connections for all.
    pub(crate) fn one(pool: &Pool) -> Self {
        Self { lists: pool.clone(), replays: pool.clone(), directory: pool.clone() }
    }
}

/// Reads of the database. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct RoundQueries {
    pools: QueryPools,
    metrics: Metrics,
    skipped: SkippedRounds,
    /// In the read-only mode: the operator's queries instead of our views.
    read_only: Option<OperatorQueries>,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(ref refused)
                if refused.code().as_deref() == Some(sqlstate::QUERY_CANCELED) =>
            {
                Self::TooMuch(error.to_string())
            }
            sqlx::Error::Database(ref refusal) if is_of_data(&**refusal) => {
                Self::Unreadable(error.to_string())
            }
            sqlx::Error::Database(_) => Self::Refused(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// Whether the content of a row is to blame.
fn is_of_data(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| sqlstate::is_of_data(&code))
}

impl RoundQueries {
    /// Reads through these connections.
    pub(crate) fn new(pools: QueryPools, metrics: Metrics, skipped: SkippedRounds) -> Self {
        Self { pools, metrics, skipped, read_only: None }
    }

    /// Reads with the operator's queries, for a database without our schema.
    pub(crate) fn read_only(
        pools: QueryPools,
        metrics: Metrics,
        skipped: SkippedRounds,
        source: OperatorQueries,
    ) -> Self {
        Self { pools, metrics, skipped, read_only: Some(source) }
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
        pool: &Pool,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        self.metrics.database_queries_total.inc();
        pool.fetch_all(query).await
    }

    /// All games that can be read, by id. Not counted: maintenance asks too.
    pub(super) async fn read_games(&self) -> Result<Vec<Game>, sqlx::Error> {
        games::read(self, Some(&self.skipped)).await
    }

    async fn read_list_place(&self, named: &NamedRound) -> Result<Vec<ListKey>, sqlx::Error> {
        let query = self.query(sql!("list_place"), sql!("read_only/list_place"));
        let query = query.bind(named.candidates().find_map(RoundId::as_number));
        let query = query.bind(named.candidates().find_map(RoundId::as_text));
        self.list_keys(&self.fetch(&self.pools.lists, query).await?)
    }

    async fn read_list_keys(
        &self,
        games: &[GameId],
        after: Option<&ListPlace>,
        limit: usize,
    ) -> Result<ListKeys, sqlx::Error> {
        let query = self.query(sql!("list_keys"), sql!("read_only/list_keys"));
        let (numbers, texts) = GameId::by_kind(games);
        let query = query.bind(numbers).bind(texts);
        let query = query.bind(after.map(|place| place.finished_at.micros()));
        let query = query.bind(after.and_then(|place| place.round.as_number()));
        let query = query.bind(after.and_then(|place| place.round.as_text()));
        let query = query.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let found = self.fetch(&self.pools.lists, query).await?;
        Ok(ListKeys { keys: self.list_keys(&found)?, is_last: found.len() < limit })
    }

    async fn read_list_rounds(
        &self,
        keys: &[ListKey],
        bytes: usize,
    ) -> Result<ListedRounds, sqlx::Error> {
        let query = self.query(sql!("list_rounds"), sql!("read_only/list_rounds"));
        let attachments: Vec<i32> = keys.iter().map(|key| key.attachment.0).collect();
        let ids = keys.iter().map(|key| key.place.round.columns());
        let (numbers, texts): (Vec<i64>, Vec<&str>) = ids.unzip();
        let query = query.bind(attachments).bind(numbers).bind(texts);
        let query = query.bind(i64::try_from(bytes).unwrap_or(i64::MAX));
        let found = self.fetch(&self.pools.lists, query).await;
        if let (Err(error), [key]) = (&found, keys) {
            self.count_unreadable(error, key.attachment, &key.place.round);
        }
        self.listed(&found?)
    }

    async fn read_contents(
        &self,
        names: &[RoundName],
    ) -> Result<Vec<(RoundName, Round)>, sqlx::Error> {
        let query = self.query(sql!("rounds_by_id"), sql!("read_only/rounds_by_id"));
        let found = self.fetch(&self.pools.replays, named(query, names)).await;
        if let (Err(error), [(attachment, id)]) = (&found, names) {
            self.count_unreadable(error, *attachment, id);
        }
        let (now, mut rounds) = (UnixMillis::now(), Vec::with_capacity(names.len()));
        for row in &found? {
            if let Some(round) = self.sendable(row, now)? {
                rounds.push(((rows::attachment(row)?, round.round_id.clone()), round));
            }
        }
        Ok(rounds)
    }

    /// The round of a row. One that cannot be sent is counted.
    fn sendable(&self, row: &PgRow, now: UnixMillis) -> Result<Option<Round>, sqlx::Error> {
        let unsendable = match rows::round(row, now)? {
            Ok(round) => return Ok(Some(round)),
            Err(unsendable) => unsendable,
        };
        if let Ok(id) = rows::round_id(row)? {
            self.skipped.skip_again(unsendable.reason(), rows::attachment(row)?, &id);
        }
        Ok(None)
    }

    /// The keys of rounds that can be sent. PostgreSQL checks ids too, and of an encoding other than
    /// UTF8 it lets some control characters pass.
    fn list_keys(&self, found: &[PgRow]) -> Result<Vec<ListKey>, sqlx::Error> {
        let mut keys = Vec::with_capacity(found.len());
        for row in found {
            let attachment = rows::attachment(row)?;
            let micros = row.number("finished_micros")?;
            match (rows::round_id(row)?, micros.and_then(FinishedAt::from_micros)) {
                (Ok(round), Some(finished_at)) => {
                    keys.push(ListKey { place: ListPlace { finished_at, round }, attachment });
                }
                (Ok(round), None) => {
                    self.skipped.skip_again(Skipped::out_of_range, attachment, &round);
                }
                (Err(_), _) => {
                    self.skipped.skip_again(Skipped::bad_id, attachment, &RoundId::number(0));
                }
            }
        }
        Ok(keys)
    }

    /// Counts the round that was asked for alone, if its content made the query fail.
    fn count_unreadable(&self, error: &sqlx::Error, attachment: Attachment, id: &RoundId) {
        if fails_of_data(error) {
            tracing::debug!(%error, round.id = %id, "a stored round cannot be read");
            self.skipped.skip_again(Skipped::unreadable, attachment, id);
        }
    }

    /// The rounds up to the first one that did not fit.
    fn listed(&self, found: &[PgRow]) -> Result<ListedRounds, sqlx::Error> {
        let (mut listed, now) = (ListedRounds::default(), UnixMillis::now());
        for row in found {
            if row.try_get("cut")? {
                listed.cut = rows::round_id(row)?.ok();
                break;
            }
            listed.rounds.extend(self.sendable(row, now)?);
        }
        Ok(listed)
    }

    async fn read_resume_points(
        &self,
        rounds: &[RoundId],
    ) -> Result<HashMap<RoundId, Xid>, sqlx::Error> {
        let (numbers, texts) = RoundId::by_kind(rounds);
        let query = self.query(sql!("resume_points"), sql!("read_only/resume_points"));
        let query = self.with_overlap(query.bind(numbers).bind(texts));
        let found = self.fetch(&self.pools.replays, query).await?;
        let mut points = HashMap::with_capacity(found.len());
        for row in &found {
            if let Ok(round) = rows::round_id(row)? {
                points.insert(round, rows::xid(row, "before")?);
            }
        }
        Ok(points)
    }
}

impl GameQueries for RoundQueries {
    type Error = sqlx::Error;

    async fn keys(&self) -> Result<Vec<GameId>, sqlx::Error> {
        let query = self.query(sql!("game_keys"), sql!("read_only/game_keys"));
        let found = self.pools.directory.fetch_all(query).await?;
        found.iter().filter_map(|row| rows::game_id(row).map(Result::ok).transpose()).collect()
    }

    async fn games(
        &self,
        ids: Option<&[GameId]>,
        with_names: bool,
    ) -> Result<Vec<Game>, sqlx::Error> {
        let (numbers, texts) = ids.map(GameId::by_kind).unzip();
        let query = match &self.read_only {
            None => games::query(sql!("games"), with_names).into_owned(),
            Some(source) => source.query(&games::query(sql!("read_only/games"), with_names)),
        };
        let query = sqlx::query(AssertSqlSafe(query)).bind(numbers).bind(texts);
        let found = self.pools.directory.fetch_all(query).await?;
        found.iter().filter_map(|row| rows::game(row).transpose()).collect()
    }

    fn is_of_data(error: &sqlx::Error) -> bool {
        fails_of_data(error)
    }
}

/// Whether the content of a row made the query fail.
pub(super) fn fails_of_data(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(is_of_data)
}

/// Binds the names of rounds. Without a table, the round is looked for in each.
fn named<'q>(
    query: Query<'q, Postgres, PgArguments>,
    names: &[RoundName],
) -> Query<'q, Postgres, PgArguments> {
    let table = |attachment: Attachment| (attachment != Attachment::ANY).then_some(attachment.0);
    let attachments: Vec<Option<i32>> =
        names.iter().map(|(attachment, _)| table(*attachment)).collect();
    let columns = names.iter().map(|(_, id)| id.columns());
    let (ids, keys): (Vec<i64>, Vec<String>) =
        columns.map(|(id, key)| (id, key.to_owned())).unzip();
    query.bind(attachments).bind(ids).bind(keys)
}

impl RoundStore for RoundQueries {
    fn games(&self) -> Answer<'_, Vec<Game>> {
        self.metrics.database_queries_total.inc();
        async { Ok(self.read_games().await?) }.boxed()
    }

    fn list_place<'a>(&'a self, named: &'a NamedRound) -> Answer<'a, Vec<ListKey>> {
        async { Ok(self.read_list_place(named).await?) }.boxed()
    }

    fn list_keys<'a>(
        &'a self,
        games: &'a [GameId],
        after: Option<&'a ListPlace>,
        limit: usize,
    ) -> Answer<'a, ListKeys> {
        async move { Ok(self.read_list_keys(games, after, limit).await?) }.boxed()
    }

    fn list_rounds<'a>(&'a self, keys: &'a [ListKey], bytes: usize) -> Answer<'a, ListedRounds> {
        async move { Ok(self.read_list_rounds(keys, bytes).await?) }.boxed()
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

    fn contents<'a>(&'a self, rounds: &'a [RoundName]) -> Answer<'a, Vec<(RoundName, Round)>> {
        async { Ok(self.read_contents(rounds).await?) }.boxed()
    }
}
