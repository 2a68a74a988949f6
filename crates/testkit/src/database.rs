//! A database per test, copied from a migrated template, and the writes of a game.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};
use tokio::sync::OnceCell;

use super::{
    TestServer, WsClient,
    binary::datastream,
    cluster::{Address, shared},
};

/// The games of every test database.
const SAMPLE_GAMES: &str = include_str!("../../../sql/sample_games.sql");
const TEMPLATE: &str = "migrated_template";

/// The database of a test. `pool` contains the game's connections.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    pub name: String,
    pub pool: PgPool,
    pub address: Address,
}

impl TestDatabase {
    /// Migrated, with the sample games.
    pub async fn new() -> Self {
        static MIGRATED: OnceCell<()> = OnceCell::const_new();
        let address = shared();
        MIGRATED
            .get_or_init(|| async { migrated(address, TEMPLATE, &[]).await.close().await })
            .await;
        Self::create(address, &format!("template {TEMPLATE}")).await
    }

    /// Empty: without the schema `datastream` and without games.
    pub async fn empty() -> Self {
        Self::create(shared(), "").await
    }

    /// Empty, in an encoding that lacks most characters.
    pub async fn in_latin1() -> Self {
        Self::in_encoding("LATIN1").await
    }

    /// Empty, in an encoding with bytes that stand for no character.
    pub async fn in_win1252() -> Self {
        Self::in_encoding("WIN1252").await
    }

    /// Empty, in this encoding.
    pub async fn in_encoding(encoding: &str) -> Self {
        let options =
            format!("encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0");
        Self::create(shared(), &options).await
    }

    /// Migrated with these flags of `datastream migrate`.
    pub async fn migrated_with(flags: &[&str]) -> Self {
        let database = Self::empty().await;
        migrated(&database.address, &database.name, flags).await.close().await;
        database
    }

    /// Migrated, on a dedicated cluster.
    pub async fn on(address: &Address) -> Self {
        let database = Self::create(address, "").await;
        migrated(address, &database.name, &[]).await.close().await;
        database
    }

    /// Empty, on a dedicated cluster.
    pub async fn empty_on(address: &Address) -> Self {
        Self::create(address, "").await
    }

    async fn create(address: &Address, options: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let maintenance = connect(&address.url("postgres"), 1).await;
        let create = format!("create database {name} {options}");
        sqlx::query(AssertSqlSafe(create)).execute(&maintenance).await.expect("a database");
        maintenance.close().await;
        let pool = connect(&address.url(&name), 12).await;
        Self { name, pool, address: address.clone() }
    }

    /// Drops it under its open connections, and makes another one of its name, migrated.
    pub async fn make_again(self) -> Self {
        self.pool.close().await;
        let maintenance = connect(&self.address.url("postgres"), 1).await;
        for sql in [
            format!("drop database {} with (force)", self.name),
            format!("create database {}", self.name),
        ] {
            sqlx::query(AssertSqlSafe(sql)).execute(&maintenance).await.expect("a new database");
        }
        maintenance.close().await;
        migrated(&self.address, &self.name, &[]).await.close().await;
        let pool = connect(&self.address.url(&self.name), 12).await;
        Self { pool, ..self }
    }

    /// The URL of the Unix socket.
    pub fn url(&self) -> String {
        self.address.url(&self.name)
    }

    /// The URL through this TCP port, for example of a fault proxy.
    pub fn url_through(&self, port: u16) -> String {
        Address::tcp_url(&self.name, port)
    }

    /// Inserts a finished round; returns its id.
    pub async fn finish(&self, game: &str, extras: &str) -> i64 {
        let insert = "insert into public.rounds (game_id, finished_at, extras) \
            select id, now(), $2::jsonb from public.games where slug = $1 returning id";
        sqlx::query_scalar(insert)
            .bind(game)
            .bind(extras)
            .fetch_one(&self.pool)
            .await
            .expect("a round")
    }

    /// The same for crash; `None` if PostgreSQL refuses it.
    pub async fn try_finish(&self) -> Option<i64> {
        let insert = "insert into public.rounds (game_id, finished_at) \
            select id, now() from public.games where slug = 'crash' returning id";
        sqlx::query_scalar(insert).fetch_one(&self.pool).await.ok()
    }

    /// Inserts a finished round and waits until the server has streamed it: it then is the seed of new
    /// connections.
    pub async fn finish_streamed(&self, server: &TestServer, game: &str, extras: &str) -> i64 {
        let mut client = WsClient::connect(server.ws("/ws")).await;
        let round_id = self.finish(game, extras).await;
        client.rounds_until(round_id).await;
        round_id
    }

    /// Inserts finished rounds, each in its own transaction.
    pub async fn finish_many(&self, game: &str, count: usize) -> Vec<i64> {
        let mut ids = Vec::with_capacity(count);
        for number in 0..count {
            ids.push(self.finish(game, &format!("{{\"n\": {number}}}")).await);
        }
        ids
    }

    /// The same, and waits until the server has streamed them: only then a resume after one of them
    /// repeats no round.
    pub async fn finish_many_streamed(
        &self,
        server: &TestServer,
        game: &str,
        count: usize,
    ) -> Vec<i64> {
        let mut client = WsClient::connect(server.ws("/ws")).await;
        let ids = self.finish_many(game, count).await;
        client.rounds_until(ids[count - 1]).await;
        ids
    }

    /// Inserts a round finished at this time (an SQL expression such as `now() - interval '1h'`).
    pub async fn finish_at(&self, game: &str, moment: &str) -> i64 {
        let insert = format!(
            "insert into public.rounds (game_id, finished_at) \
             select id, {moment} from public.games where slug = $1 returning id"
        );
        let insert = sqlx::query_scalar(AssertSqlSafe(insert)).bind(game);
        insert.fetch_one(&self.pool).await.expect("a round")
    }

    /// Inserts an unfinished round; returns its id.
    pub async fn open(&self, game: &str) -> i64 {
        let insert = "insert into public.rounds (game_id) \
            select id from public.games where slug = $1 returning id";
        sqlx::query_scalar(insert).bind(game).fetch_one(&self.pool).await.expect("a round")
    }

    /// Finishes an open round.
    pub async fn finish_open(&self, round_id: i64, extras: &str) {
        let update =
            "update public.rounds set finished_at = now(), extras = $2::jsonb where id = $1";
        let update = sqlx::query(update).bind(round_id).bind(extras).execute(&self.pool);
        assert_eq!(update.await.expect("an update").rows_affected(), 1);
    }

    /// Runs SQL as the game: one or several statements.
    pub async fn run(&self, sql: &str) {
        let run = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await;
        run.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// One value, as text.
    pub async fn text(&self, sql: &str) -> Option<String> {
        let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await;
        query.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// `extras::text` of a round, as PostgreSQL prints it.
    pub async fn extras_of(&self, round_id: i64) -> String {
        let sql = format!("select extras::text from public.rounds where id = {round_id}");
        self.text(&sql).await.expect("extras")
    }

    /// Ends every session of the server under test with `pg_terminate_backend`.
    pub async fn terminate_server_sessions(&self) {
        self.run(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and application_name like 'datastream%'",
        )
        .await;
    }
}

/// Runs `datastream migrate` and adds the sample games.
async fn migrated(address: &Address, name: &str, flags: &[&str]) -> PgPool {
    if name == TEMPLATE {
        let maintenance = connect(&address.url("postgres"), 1).await;
        let create = format!("create database {name}");
        sqlx::query(AssertSqlSafe(create)).execute(&maintenance).await.expect("a database");
        maintenance.close().await;
    }
    let args = [&["migrate"], flags].concat();
    let output = datastream(&args).env("DATABASE_URL", address.url(name)).run().await;
    assert_eq!(output.code, Some(0), "datastream migrate: {}", output.stderr);
    let pool = connect(&address.url(name), 1).await;
    sqlx::raw_sql(SAMPLE_GAMES).execute(&pool).await.expect("the sample games");
    pool
}

async fn connect(url: &str, connections: u32) -> PgPool {
    let options = PgPoolOptions::new().max_connections(connections);
    options.connect(url).await.unwrap_or_else(|error| panic!("{url}: {error}"))
}
