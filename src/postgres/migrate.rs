//! `datastream migrate`: does the same as `sqlx migrate run`, with retries for locks.
//!
//! The migrations and `sqlx.toml` are compiled in. Each attempt has its own connection: closing it
//! after a failure releases the migrator's advisory lock.

mod error;

use std::collections::BTreeMap;

pub(crate) use error::MigrationError;
use sqlx::{
    Connection, PgConnection,
    migrate::{MigrateError, Migration, Migrator},
};

use crate::postgres::{attach, lock_retry::with_lock_retries, pooler, sql::sql, target::PgTarget};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Logs notices: the migrations report the tables that they do not attach, with a remedy.
pub(crate) const LOG_FILTER: &str = "info,sqlx=warn,sqlx::postgres::notice=info";

/// A statement that waits for a lock on a game's table blocks later writes. The migrations set
/// 2 s themselves. This is the limit for everything else, such as the migrator's own lock.
const SETTINGS: [(&str, &str); 1] = [("lock_timeout", "5s")];
/// The oldest server with 64-bit transaction ids in SQL (`xid8`).
const MIN_SERVER_VERSION: i32 = 130_000;

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MigrateReport {
    /// The migrations applied, or reverted, in this order: `20260117000100 create games and rounds`.
    pub changed: Vec<String>,
    /// How many are applied now.
    pub applied: usize,
}

/// Whether to create `public.games` and `public.rounds` if they do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    /// Create and attach them, for a new game.
    Create,
    /// Do not create them: the game has its own tables.
    Skip,
}

#[derive(Clone, Copy)]
enum Direction {
    Up(Tables),
    Down,
}

/// Applies the pending migrations.
pub(crate) async fn run(
    target: &PgTarget,
    tables: Tables,
) -> Result<MigrateReport, MigrationError> {
    with_lock_retries(async || migrate_once(target, Direction::Up(tables)).await).await
}

/// Reverts all migrations. The empty schema and its table of migrations stay.
pub(crate) async fn revert(target: &PgTarget) -> Result<MigrateReport, MigrationError> {
    with_lock_retries(async || migrate_once(target, Direction::Down).await).await
}

async fn migrate_once(
    target: &PgTarget,
    direction: Direction,
) -> Result<MigrateReport, MigrationError> {
    let mut connection = pooler::connect_alone(target, "migrate", &SETTINGS).await?;
    refuse_old_servers(&mut connection).await?;
    let before = applied(&mut connection).await?;
    if let (Direction::Up(_), true) = (direction, before.is_empty()) {
        refuse_publications(&mut connection).await?;
    }
    if before.len() == up_migrations().count() {
        // Nothing is pending, so the only notices would be `already exists, skipping`.
        sqlx::query("set client_min_messages = warning").execute(&mut connection).await?;
    }
    if let Direction::Up(Tables::Skip) = direction {
        sqlx::query("set datastream.tables = off").execute(&mut connection).await?;
    }
    match direction {
        Direction::Up(_) => apply(&mut connection).await?,
        Direction::Down if before.is_empty() => {}
        Direction::Down => MIGRATIONS.undo(&mut connection, 0).await?,
    }
    if let Direction::Up(_) = direction {
        refuse_dropped_objects(&mut connection).await?;
        // The migrations are applied: a failure to check the tables is not an error.
        if let Err(error) = attach::log_warnings(&mut connection, None).await {
            tracing::debug!(%error, "cannot check the attached tables");
        }
    }
    let after = applied(&mut connection).await?;
    let _closed = connection.close().await;
    Ok(report(direction, &before, &after))
}

async fn apply(connection: &mut PgConnection) -> Result<(), MigrationError> {
    match MIGRATIONS.run_direct(None, connection, false).await {
        Err(MigrateError::VersionMismatch(version)) => {
            let commands = replacement(connection).await;
            Err(MigrationError::Changed { version, commands })
        }
        outcome => Ok(outcome?),
    }
}

/// The shell commands that replace a schema of an earlier text, as far as it says how it was made.
async fn replacement(connection: &mut PgConnection) -> String {
    let sql = sql!("doctor/attached_tables", "replace_schema");
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap_or_else(|error| {
        tracing::debug!("the attached tables were not read: {error}");
        "datastream migrate --revert && datastream migrate, then attach each table".to_owned()
    })
}

async fn refuse_old_servers(connection: &mut PgConnection) -> Result<(), MigrationError> {
    let version: String =
        sqlx::query_scalar("show server_version_num").fetch_one(connection).await?;
    match version.parse::<i32>() {
        Ok(version) if version < MIN_SERVER_VERSION => Err(MigrationError::Unsupported),
        _ => Ok(()),
    }
}

/// Protects the game's replication: subscribers without our tables would stop.
async fn refuse_publications(connection: &mut PgConnection) -> Result<(), MigrationError> {
    let publications = sql!("publications");
    match sqlx::query_scalar(publications).fetch_one(connection).await? {
        Some(publications) => Err(MigrationError::Published(publications)),
        None => Ok(()),
    }
}

/// Finds objects that were dropped although their migration is recorded as applied.
async fn refuse_dropped_objects(connection: &mut PgConnection) -> Result<(), MigrationError> {
    match sqlx::query_scalar(sql!("missing")).fetch_one(connection).await? {
        Some(missing) => Err(MigrationError::Dropped(missing)),
        None => Ok(()),
    }
}

/// The versions of the migrations of this program, in order.
pub(crate) fn versions() -> Vec<i64> {
    up_migrations().map(|migration| migration.version).collect()
}

fn up_migrations() -> impl Iterator<Item = &'static Migration> {
    MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration())
}

/// The SQL of `run` with `Tables::Skip`, for a transaction: creates the schema and records the
/// migrations, so that a later `run` finds them applied.
pub(crate) fn script() -> String {
    let start = "set local datastream.tables = off;\ncreate schema if not exists datastream;\n\
        create table if not exists datastream._sqlx_migrations (version bigint primary key, description text not null, \
        installed_on timestamptz not null default now(), success boolean not null, checksum bytea not null, \
        execution_time bigint not null);\n";
    up_migrations().fold(start.to_owned(), |script, migration| {
        let checksum: String =
            migration.checksum.iter().map(|byte| format!("{byte:02x}")).collect();
        let Migration { version, description, sql, .. } = migration;
        script
            + &format!(
                "\n{}\ninsert into datastream._sqlx_migrations values \
                 ({version}, '{description}', now(), true, '\\x{checksum}', 0);\n",
                sql.as_str()
            )
    })
}

fn report(direction: Direction, before: &Applied, after: &Applied) -> MigrateReport {
    let missing_in = |other: &Applied, this: &Applied| -> Vec<String> {
        let new = this.iter().filter(|(version, _)| !other.contains_key(version));
        new.map(|(version, description)| format!("{version} {description}")).collect()
    };
    let changed = match direction {
        Direction::Up(_) => missing_in(before, after),
        Direction::Down => missing_in(after, before).into_iter().rev().collect(),
    };
    MigrateReport { changed, applied: after.len() }
}

type Applied = BTreeMap<i64, String>;

async fn applied(connection: &mut PgConnection) -> Result<Applied, sqlx::Error> {
    let exists = "select to_regclass('datastream._sqlx_migrations') is not null";
    if !sqlx::query_scalar::<_, bool>(exists).fetch_one(&mut *connection).await? {
        return Ok(Applied::new());
    }
    let rows: Vec<(i64, String)> =
        sqlx::query_as("select version, description from datastream._sqlx_migrations")
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().collect())
}
