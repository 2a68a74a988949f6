//! Queries on a connection of the capture.
//!
//! A pooler may run each transaction in another session of the server. Then a session may keep no
//! setting, which would apply to the game's next transaction there, and no named statement. So each
//! query is parsed, bound and executed in one round trip.

use std::time::Duration;

use tokio_postgres::{
    Client, Row, Statement,
    types::{ToSql, Type},
};

use super::error::CaptureError;
use crate::postgres::client;

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
    Unnamed(&'static str),
}

/// The client's side of the connection.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    is_own: bool,
}

impl Session {
    /// Asks the server whether a pooler is between: a pooler does not pass our setting on.
    pub(super) async fn new(client: Client) -> Result<Self, CaptureError> {
        let (name, own) = client::OWN;
        let sql = "select coalesce(current_setting($1, true), '')";
        let row = client.query_typed_one(sql, &[(&name, Type::TEXT)]).await?;
        let is_own = row.try_get::<_, &str>(0)? == own;
        Ok(Self { client, is_own })
    }

    /// Whether no pooler is between.
    pub(super) fn is_own(&self) -> bool {
        self.is_own
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
        Ok(self.client.query_typed(sql, parameters).await?)
    }

    /// The one row of a query.
    pub(super) async fn query_one(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Row, CaptureError> {
        Ok(self.client.query_typed_one(sql, parameters).await?)
    }

    /// Prepares a query that runs often.
    pub(super) async fn prepare(&self, sql: &'static str) -> Result<PreparedQuery, CaptureError> {
        if self.is_own {
            return Ok(PreparedQuery::Named(self.client.prepare(sql).await?));
        }
        Ok(PreparedQuery::Unnamed(sql))
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
