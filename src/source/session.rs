//! Queries on a connection of the capture.
//!
//! Behind a pooler that gives each transaction another session of the server, nothing is left in
//! one: no setting, which the game's next transaction there would run with, and no statement by a
//! name that others use as well. Everything is parsed, bound and executed in one round trip.

use tokio_postgres::{
    Client, Row, Statement,
    types::{ToSql, Type},
};

use super::CaptureError;
use crate::postgres::client;

/// A parameter and its type.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A query that is asked again and again.
#[derive(Debug)]
pub(super) enum Ask {
    /// Prepared once.
    Prepared(Statement),
    /// Parsed each time.
    Anew(&'static str),
}

/// The client's side of the connection.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    is_own: bool,
}

impl Session {
    /// Asks whether it is one of its own.
    pub(super) async fn new(client: Client) -> Result<Self, CaptureError> {
        let (name, own) = client::OWN;
        let sql = "select coalesce(current_setting($1, true), '')";
        let row = client.query_typed_one(sql, &[(&name, Type::TEXT)]).await?;
        let is_own = row.try_get::<_, &str>(0)? == own;
        Ok(Self { client, is_own })
    }

    /// Whether no pooler stands between.
    pub(super) fn is_own(&self) -> bool {
        self.is_own
    }

    /// Statements without parameters or answers.
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

    /// Makes a query ready to be asked often.
    pub(super) async fn prepare(&self, sql: &'static str) -> Result<Ask, CaptureError> {
        if self.is_own {
            return Ok(Ask::Prepared(self.client.prepare(sql).await?));
        }
        Ok(Ask::Anew(sql))
    }

    /// The rows of a query that was made ready.
    pub(super) async fn ask(
        &self,
        ask: &Ask,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, CaptureError> {
        match ask {
            Ask::Anew(sql) => self.query(sql, parameters).await,
            Ask::Prepared(statement) => {
                let values: Vec<_> = parameters.iter().map(|(value, _)| *value).collect();
                Ok(self.client.query(statement, &values).await?)
            }
        }
    }
}
