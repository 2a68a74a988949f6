//! Queries on a connection of the capture.
//!
//! A pooler may run each transaction in another session of the server. Then a session may keep no
//! setting, which would apply to the game's next transaction there, and no named statement. So each
//! query is parsed, bound and executed in a transaction that has our settings, in one round trip.

use std::{borrow::Cow, time::Duration};

use futures_util::TryStreamExt;
use tokio_postgres::{
    Client, Row, Statement,
    types::{ToSql, Type},
};

use super::error::CaptureError;
use crate::postgres::session_settings::{NO_LATER_TIMEOUTS, OWN};

/// No answer within this time means that the connection is half-open.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A catch-up may have millions of rows to find.
pub(super) const CATCH_UP_WITHIN: Duration = Duration::from_secs(60);

/// A parameter and its type.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A query that runs often.
#[derive(Debug)]
pub(super) enum PreparedQuery {
    /// Prepared once.
    Named(Statement),
    /// Parsed each time.
    Unnamed(Cow<'static, str>),
}

/// Rows that have at most some number of bytes.
#[derive(Debug)]
pub(super) enum BoundedRows {
    /// All rows, and their bytes.
    All(Vec<Row>, usize),
    /// They have more.
    TooMany,
}

/// The client's side of the connection.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    /// The statements that begin a transaction in a session that a pooler shares; none in our own.
    begin: Option<String>,
}

impl Session {
    /// Asks the server whether a pooler is between: a pooler does not pass our setting on. `begin`
    /// begins a transaction with the session's settings.
    pub(super) async fn new(client: Client, begin: String) -> Result<Self, CaptureError> {
        let (name, own) = OWN;
        let sql = "select coalesce(current_setting($1, true), '')";
        let row = client.query_typed_one(sql, &[(&name, Type::TEXT)]).await?;
        if row.try_get::<_, &str>(0)? != own {
            return Ok(Self { client, begin: Some(begin) });
        }
        client.batch_execute(NO_LATER_TIMEOUTS).await?;
        Ok(Self { client, begin: None })
    }

    /// Whether no pooler is between.
    pub(super) fn is_own(&self) -> bool {
        self.begin.is_none()
    }

    /// Runs statements without parameters or rows.
    pub(super) async fn run(&self, sql: &str) -> Result<(), CaptureError> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// The rows of a query.
    pub(super) async fn query(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, CaptureError> {
        let query = self.client.query_typed(sql, parameters);
        let Some(begin) = &self.begin else { return Ok(query.await?) };
        // All three are sent at once. After an error, `commit` rolls back.
        let (begun, rows, ended) = tokio::join!(
            self.client.batch_execute(begin),
            query,
            self.client.batch_execute("commit")
        );
        begun.and(rows).and_then(|rows| ended.map(|()| rows)).map_err(CaptureError::from)
    }

    /// The one row of a query.
    pub(super) async fn query_one(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Row, CaptureError> {
        let rows = self.query(sql, parameters).await?;
        rows.into_iter().next().ok_or(CaptureError::Closed)
    }

    /// Prepares a query that runs often.
    pub(super) async fn prepare(&self, sql: &'static str) -> Result<PreparedQuery, CaptureError> {
        if self.is_own() {
            return Ok(PreparedQuery::Named(self.client.prepare(sql).await?));
        }
        Ok(PreparedQuery::Unnamed(sql.into()))
    }

    /// The rows of a prepared query.
    pub(super) async fn query_prepared(
        &self,
        query: &PreparedQuery,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, CaptureError> {
        match query {
            PreparedQuery::Unnamed(sql) => self.query(sql, parameters).await,
            PreparedQuery::Named(statement) => {
                let values: Vec<_> = parameters.iter().map(|(value, _)| *value).collect();
                Ok(self.client.query(statement, &values).await?)
            }
        }
    }

    /// The rows of a prepared query, unless they have more than `most` bytes: then the others are read
    /// from the connection and dropped.
    pub(super) async fn query_bounded(
        &self,
        query: &PreparedQuery,
        parameters: &[Parameter<'_>],
        most: usize,
    ) -> Result<BoundedRows, CaptureError> {
        let Some(begin) = &self.begin else {
            return self.read_bounded(query, parameters, most).await;
        };
        self.run(begin).await?;
        let rows = self.read_bounded(query, parameters, most).await;
        // After an error, `commit` rolls back.
        self.run("commit").await?;
        rows
    }

    async fn read_bounded(
        &self,
        query: &PreparedQuery,
        parameters: &[Parameter<'_>],
        most: usize,
    ) -> Result<BoundedRows, CaptureError> {
        let rows = match query {
            PreparedQuery::Unnamed(sql) => {
                let parameters = parameters.iter().map(|(value, kind)| (*value, kind.clone()));
                self.client.query_typed_raw(sql, parameters).await?
            }
            PreparedQuery::Named(statement) => {
                let values: Vec<_> = parameters.iter().map(|(value, _)| *value).collect();
                self.client.query_raw(statement, values).await?
            }
        };
        let mut rows = std::pin::pin!(rows);
        let (mut read, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await? {
            bytes += row.raw_size_bytes();
            if bytes > most && !read.is_empty() {
                return Ok(BoundedRows::TooMany);
            }
            read.push(row);
        }
        Ok(BoundedRows::All(read, bytes))
    }

    /// The boolean that a query without parameters returns; an absent row is an error.
    pub(super) async fn flag(&self, sql: &str) -> Result<bool, CaptureError> {
        Ok(within(ANSWER_WITHIN, self.query_one(sql, &[])).await?.try_get(0)?)
    }
}

/// The answer, or an error if it does not come in time.
pub(super) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, CaptureError>>,
) -> Result<T, CaptureError> {
    tokio::time::timeout(limit, answer).await.unwrap_or(Err(CaptureError::Silent(limit)))
}
