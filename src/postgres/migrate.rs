//! `datastream migrate`: what `sqlx migrate run` does, without sqlx-cli, and politely.
//!
//! The migrations and `sqlx.toml` are compiled in. Each attempt is a connection of its own: a
//! failed one drops the migrator's advisory lock with it.

mod error;

use std::collections::BTreeMap;

pub(crate) use error::MigrationError;
use sqlx::{
    Connection, PgConnection,
    migrate::{MigrateError, Migration, Migrator},
};

use crate::postgres::{attach, lock_retry::with_patience, pooler, target::PgTarget};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// The server's notices say what was left alone, and what to do about it.
pub(crate) const LOG_FILTER: &str = "info,sqlx=warn,sqlx::postgres::notice=info";

/// A statement that waits for a lock on a game's table makes the game wait behind it. The
/// migrations allow themselves 2 s; this is for the rest, the migrator's own lock among it.
const SETTINGS: [(&str, &str); 1] = [("lock_timeout", "5s")];
/// The oldest server with 64-bit transaction ids in SQL (`xid8`).
const OLDEST: i32 = 130_000;

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MigrateReport {
    /// The migrations applied, or reverted, in this order: `20260117000100 create games and rounds`.
    pub changed: Vec<String>,
    /// How many are applied now.
    pub applied: usize,
}

/// What is done about `public.games` and `public.rounds` where the database has none of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    /// They are made, for a new game, and attached.
    Make,
    /// Nothing: the game has its own.
    Leave,
}

#[derive(Clone, Copy)]
enum Way {
    Up(Tables),
    Down,
}

/// Applies what is missing.
pub(crate) async fn run(
    target: &PgTarget,
    tables: Tables,
) -> Result<MigrateReport, MigrationError> {
    with_patience(async || migrate(target, Way::Up(tables)).await).await
}

/// Reverts everything: what is left is the empty schema with its migration table.
pub(crate) async fn revert(target: &PgTarget) -> Result<MigrateReport, MigrationError> {
    with_patience(async || migrate(target, Way::Down).await).await
}

async fn migrate(target: &PgTarget, way: Way) -> Result<MigrateReport, MigrationError> {
    let mut connection = pooler::connect_alone(target, "migrate", &SETTINGS).await?;
    refuse_old_servers(&mut connection).await?;
    let before = applied(&mut connection).await?;
    if let (Way::Up(_), true) = (way, before.is_empty()) {
        refuse_publications(&mut connection).await?;
    }
    if before.len() == ups().count() {
        // Nothing will be applied, so that there is nothing to be told but `already exists`.
        sqlx::query("set client_min_messages = warning").execute(&mut connection).await?;
    }
    if let Way::Up(Tables::Leave) = way {
        sqlx::query("set datastream.tables = off").execute(&mut connection).await?;
    }
    match way {
        Way::Up(_) => apply(&mut connection).await?,
        Way::Down if before.is_empty() => {}
        Way::Down => MIGRATIONS.undo(&mut connection, 0).await?,
    }
    if let Way::Up(_) = way {
        refuse_gaps(&mut connection).await?;
        // A help: what was asked for is done.
        if let Err(error) = attach::warn(&mut connection, None).await {
            tracing::debug!("the attached tables were not looked at: {error}");
        }
    }
    let after = applied(&mut connection).await?;
    let _closed = connection.close().await;
    Ok(report(way, &before, &after))
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
    let sql = concat!(
        include_str!("../../sql/doctor/attached_tables.sql"),
        include_str!("../../sql/replace_schema.sql")
    );
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap_or_else(|error| {
        tracing::debug!("the attached tables were not read: {error}");
        "datastream migrate --revert && datastream migrate, then attach each table".to_owned()
    })
}

async fn refuse_old_servers(connection: &mut PgConnection) -> Result<(), MigrationError> {
    let version: String =
        sqlx::query_scalar("show server_version_num").fetch_one(connection).await?;
    match version.parse::<i32>() {
        Ok(version) if version < OLDEST => Err(MigrationError::Unsupported),
        _ => Ok(()),
    }
}

/// The game's own replication must not break because of us.
async fn refuse_publications(connection: &mut PgConnection) -> Result<(), MigrationError> {
    let publications = include_str!("../../sql/publications.sql");
    match sqlx::query_scalar(publications).fetch_one(connection).await? {
        Some(publications) => Err(MigrationError::Published(publications)),
        None => Ok(()),
    }
}

/// What is recorded as made may be gone all the same.
async fn refuse_gaps(connection: &mut PgConnection) -> Result<(), MigrationError> {
    match sqlx::query_scalar(include_str!("../../sql/missing.sql")).fetch_one(connection).await? {
        Some(missing) => Err(MigrationError::Dropped(missing)),
        None => Ok(()),
    }
}

/// The versions of the migrations of this program, in order.
pub(crate) fn versions() -> Vec<i64> {
    ups().map(|migration| migration.version).collect()
}

fn ups() -> impl Iterator<Item = &'static Migration> {
    MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration())
}

/// The SQL that does what `run` does beside a game that has its own tables, to be run in a
/// transaction: the schema, and the record that lets a later `run` find it done.
pub(crate) fn script() -> String {
    let start = "set local datastream.tables = off;\ncreate schema if not exists datastream;\n\
        create table if not exists datastream._sqlx_migrations (version bigint primary key, description text not null, \
        installed_on timestamptz not null default now(), success boolean not null, checksum bytea not null, \
        execution_time bigint not null);\n";
    ups().fold(start.to_owned(), |script, migration| {
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

fn report(way: Way, before: &Applied, after: &Applied) -> MigrateReport {
    let missing_in = |other: &Applied, this: &Applied| -> Vec<String> {
        let new = this.iter().filter(|(version, _)| !other.contains_key(version));
        new.map(|(version, description)| format!("{version} {description}")).collect()
    };
    let changed = match way {
        Way::Up(_) => missing_in(before, after),
        Way::Down => missing_in(after, before).into_iter().rev().collect(),
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
