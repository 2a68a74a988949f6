//! The two connection strings, as flags and variables, and the targets they resolve to.

use clap::Args;

use super::target::{PgTarget, Secret, TargetError};

/// The database.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct DatabaseOptions {
    /// PostgreSQL to read from, as a libpq URL or `key=value` pairs.
    ///
    /// postgres://user:password@host:5432/database?sslmode=verify-full, or `host=/run/postgresql
    /// dbname=game`. Missing parts come from the PG* variables, ~/.pgpass and libpq's defaults.
    /// Prefer the variable: the process list shows flags.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<Secret>,

    /// Direct URL for LISTEN and migrations, if --database-url leads through a pooler.
    ///
    /// Default: --database-url. A pooler in transaction mode delivers no notifications.
    #[arg(long, env = "DATASTREAM_LISTEN_URL", hide_env_values = true, value_name = "URL")]
    pub listen_url: Option<Secret>,
}

/// The targets for queries and for LISTEN.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// For queries. May lead through a pooler.
    pub target: PgTarget,
    /// For LISTEN and migrations. Must be direct.
    pub listen: PgTarget,
}

impl DatabaseConfig {
    /// The same, with the name of the server in `application_name`.
    pub fn of_node(mut self, node: &str) -> Self {
        self.target.node = Some(node.to_owned());
        self.listen.node = Some(node.to_owned());
        self
    }

    /// The same for queries that leave out the extras of rounds with more text.
    pub fn with_max_round(mut self, bytes: usize) -> Self {
        for target in [&mut self.target, &mut self.listen] {
            target.options.push((MAX_ROUND.to_owned(), bytes.to_string()));
        }
        self
    }
}

/// The setting of our sessions that the queries of rounds read.
const MAX_ROUND: &str = "datastream.max_round";

/// A connection string or one of the `PG*` variables that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--{flag} ({variable}): {source}")]
pub struct DatabaseOptionError {
    flag: &'static str,
    variable: &'static str,
    source: TargetError,
}

impl DatabaseOptions {
    /// Resolves both connection strings.
    pub fn resolve(
        &self,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<DatabaseConfig, DatabaseOptionError> {
        let resolve =
            |url: Option<&Secret>, flag, variable| {
                PgTarget::resolve(url.map(Secret::reveal), &env)
                    .map_err(|source| DatabaseOptionError { flag, variable, source })
            };
        let target = resolve(self.database_url.as_ref(), "database-url", "DATABASE_URL")?;
        let listen = match &self.listen_url {
            Some(url) => resolve(Some(url), "listen-url", "DATASTREAM_LISTEN_URL")?,
            None => target.clone(),
        };
        Ok(DatabaseConfig { target, listen })
    }
}
