//! A database like that of a real game, with many features at once: attached by its owner, streamed as
//! the reader, loaded, compared with an unattached copy, and detached.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::watch;

use testkit::{
    DedicatedCluster, TestDatabase, TestServer, WsClient,
    binary::{Output, datastream, program},
    cluster::{Address, installation},
    round::ids,
    wait::beside,
    within,
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/game_database");
const ROLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/roles.sql");
const WRITERS: i64 = 8;
/// Ids of the rounds before the writers start and after all have ended, beyond the sequence.
const FIRST: i64 = 900_000_000;
const LAST: i64 = 900_000_001;

const ROUNDS: [&str; 18] = [
    "attach",
    "--table",
    r#""Casino Night"."Rounds""#,
    "--id",
    "Round",
    "--finished-at",
    r#"Closed "At""#,
    "--extras",
    "outcome",
    "--game-id",
    "Title Id",
    "--games",
    r#""Casino Night"."Titles""#,
    "--games-id",
    "Title Id",
    "--games-slug",
    "code",
    "--index",
];
const NAMES: [&str; 4] = ["--games-name", "Display Name", "--games-type", "Kind"];
const SPINS: [&str; 16] = [
    "attach",
    "--table",
    r#""Casino Night"."Wheel Spins""#,
    "--finished-at",
    "ended",
    "--yes",
    "--time-zone",
    "UTC",
    "--extras-columns",
    "sector,note",
    "--slug",
    "wheel",
    "--type",
    "chance",
    "--game-id-value",
    "77",
];

/// The rounds of both tables.
const ALL: &str = r#"select string_agg(id::text, ',') from (
    select "Round" as id from "Casino Night"."Rounds" where "Closed ""At""" is not null
    union all select id from "Casino Night"."Wheel Spins" where isfinite(ended)) r"#;

/// The game's database, owned by a role without superuser, and its unattached copy.
struct Game {
    database: TestDatabase,
    twin: TestDatabase,
}

#[track_caller]
fn succeeded(output: &Output) {
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
}

fn url(database: &TestDatabase, role: &str) -> String {
    let url = Address::tcp_url(&database.name, database.address.tcp_port);
    url.replace("postgres@", &format!("{role}@"))
}

async fn psql(database: &TestDatabase, role: &str, args: &[&str]) -> Output {
    let psql = installation().bin().join("psql").display().to_string();
    program(&psql, &[&[url(database, role).as_str(), "-X"], args].concat()).run().await
}

async fn sql(database: &TestDatabase, role: &str, sql: &str) {
    succeeded(&psql(database, role, &["-q", "-v", "ON_ERROR_STOP=1", "-c", sql]).await);
}

/// Schema and grants as pg_dump prints them, without the random key of each run.
async fn dump(database: &TestDatabase) -> String {
    let pg_dump = installation().bin().join("pg_dump").display().to_string();
    let output = program(&pg_dump, &["-s", &url(database, "boss")]).run().await;
    succeeded(&output);
    let lines = output.stdout.lines().filter(|line| !line.contains("restrict "));
    lines.collect::<Vec<_>>().join("\n")
}

impl Game {
    async fn on(address: &Address) -> Self {
        let (database, twin) =
            (TestDatabase::empty_on(address).await, TestDatabase::empty_on(address).await);
        database.run("create role boss login createrole; create role game login").await;
        for one in [&database, &twin] {
            one.run(&format!("alter database {} owner to boss", one.name)).await;
            let file = format!("{FOLDER}/schema.sql");
            let args = ["-q", "-v", "ON_ERROR_STOP=1", "-v", "game=game", "-f", &file];
            succeeded(&psql(one, "boss", &args).await);
        }
        Self { database, twin }
    }

    async fn as_boss(&self, args: &[&str]) {
        let run = datastream(args).env("DATABASE_URL", url(&self.database, "boss")).run().await;
        succeeded(&run);
    }

    /// Attaches both tables, the second after the schema was given to a role with few rights.
    async fn attach(&self) {
        self.as_boss(&[&ROUNDS[..], &NAMES].concat()).await;
        succeeded(&psql(&self.database, "boss", &["-q", "-f", ROLES]).await);
        self.as_boss(&SPINS).await;
        // Row security applies to the owner of the schema as well.
        let policy = r#"create policy streamed on "Casino Night"."Rounds" for select to datastream_owner using (true)"#;
        sql(&self.database, "boss", policy).await;
    }

    async fn detach(&self) {
        for table in [ROUNDS[2], SPINS[2]] {
            self.as_boss(&["detach", "--table", table]).await;
        }
        for statement in [
            "drop schema datastream cascade",
            "drop owned by datastream_owner",
            "drop role datastream_owner, datastream_reader",
        ] {
            sql(&self.database, "boss", statement).await;
        }
    }

    /// Finishes the round with this id.
    async fn mark(&self, id: i64) {
        let insert = format!(
            r#"insert into "Casino Night"."Rounds" ("Round", "Title Id", state) values ({id}, 1, 'done')"#
        );
        sql(&self.database, "game", &insert).await;
    }

    async fn rounds(&self) -> BTreeSet<i64> {
        let all = self.database.text(ALL).await.expect("rounds");
        all.split(',').map(|id| id.parse().expect("an id")).collect()
    }

    /// The output of PostgreSQL for the game's statements.
    async fn said(database: &TestDatabase) -> String {
        let file = format!("{FOLDER}/statements.sql");
        let output = psql(database, "game", &["-f", &file]).await;
        // Removes the position in PostgreSQL's source code.
        output.stdout + &output.stderr
    }
}

/// A writer of the game; each transaction concerns one title.
struct Writer {
    db: PgConnection,
    title: i64,
}

impl Writer {
    async fn of(url: String, number: i64) -> Self {
        let db = PgConnection::connect(&url).await.expect("a connection");
        Self { db, title: 1 + number % 3 }
    }

    async fn play(mut self) {
        for n in 0..15 {
            let id = self.insert("open", "2026-01-15Z", n).await;
            let finish = r#"update "Casino Night"."Rounds" set state = 'done' where "Round" = $1"#;
            let finished = sqlx::query(finish).bind(id).execute(&mut self.db).await;
            assert_eq!(finished.expect("an update").rows_affected(), 1);
            self.insert("done", "2026-02-15Z", n).await;
            self.insert("done", "1999-12-31Z", n).await;
            self.transaction(n).await;
            self.spins(n).await;
        }
    }

    async fn insert(&mut self, state: &str, started: &str, n: i64) -> i64 {
        let insert = r#"insert into "Casino Night"."Rounds" ("Title Id", state, "Started", outcome)
            values ($1, $2, $3::text::timestamptz, jsonb_build_object('n', $4)) returning "Round""#;
        let insert = sqlx::query_scalar(insert).bind(self.title).bind(state).bind(started).bind(n);
        insert.fetch_one(&mut self.db).await.expect("a round")
    }

    async fn say(&mut self, sql: &str) {
        let said = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.db).await;
        said.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn transaction(&mut self, n: i64) {
        self.say("begin").await;
        self.insert("done", "2026-01-16Z", n).await;
        self.say("savepoint a").await;
        self.insert("done", "2026-02-16Z", n).await;
        self.say("rollback to a").await;
        self.insert("done", "2026-02-17Z", n).await;
        self.say(if n % 3 == 0 { "rollback" } else { "commit" }).await;
    }

    async fn spins(&mut self, n: i64) {
        let copy = r#"copy "Casino Night"."Wheel Spins" (sector, note) from stdin"#;
        let mut copy = self.db.copy_in_raw(copy).await.expect("a COPY");
        let rows = format!("{n}\tred\n{n}\t\\N\n{n}\tblack\n");
        copy.send(rows.as_bytes()).await.expect("rows");
        assert_eq!(copy.finish().await.expect("its end"), 3);
    }
}

/// Polls for sessions of the game that wait for a lock of this program; returns the number of polls
/// and of waiting sessions.
async fn waiters(database: TestDatabase, mut over: watch::Receiver<bool>) -> (u32, i64) {
    let waiting = "select count(*) from pg_stat_activity w \
        where w.wait_event_type = 'Lock' and w.application_name not like 'datastream%' \
        and exists (select from unnest(pg_blocking_pids(w.pid)) b(pid) \
          join pg_stat_activity o on o.pid = b.pid where o.application_name like 'datastream%')";
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let (mut looked, mut seen) = (0, 0);
    while !*over.borrow_and_update() {
        looks.tick().await;
        let waiting = sqlx::query_scalar::<_, i64>(waiting).fetch_one(&database.pool).await;
        (looked, seen) = (looked + 1, seen + waiting.expect("a count"));
    }
    (looked, seen)
}

fn sorted(mut ids: Vec<i64>) -> Vec<i64> {
    ids.sort_unstable();
    ids
}

/// Runs eight writers while a subscriber to everything reads; returns the rounds it received.
async fn load(game: &Game, mut client: WsClient) -> Vec<i64> {
    let reader = beside(async move { ids(&client.rounds_until(LAST).await) });
    let (over, watched) = watch::channel(false);
    let waiters = beside(waiters(game.database.clone(), watched));
    let url = url(&game.database, "game");
    let writers = (0..WRITERS).map(|number| {
        let url = url.clone();
        beside(async move { Writer::of(url, number).await.play().await })
    });
    for writer in within("the writers", join_all(writers)).await {
        writer.expect("a writer that has written all");
    }
    over.send_replace(true);
    let (looked, waits) = waiters.await.expect("a count");
    assert!(looked >= 5, "looked {looked} times");
    assert_eq!(waits, 0, "sessions of the game waited for ours");
    game.mark(LAST).await;
    reader.await.expect("all rounds")
}

#[tokio::test]
async fn a_complex_game_is_streamed_completely_and_behaves_as_without_us() {
    let cluster = DedicatedCluster::start_with(&[("wal_level", "logical")]);
    let game = Game::on(&cluster.address()).await;
    let before = dump(&game.database).await;
    game.attach().await;
    let server = TestServer::on(url(&game.database, "datastream_reader")).start().await;

    let (attached, twin) = (Game::said(&game.database).await, Game::said(&game.twin).await);
    assert!(twin.contains("COPY 2") && twin.contains("row-level security"), "{twin}");
    assert_eq!(attached, twin);

    let mut client = WsClient::connect(server.ws("/ws")).await;
    game.mark(FIRST).await;
    client.rounds_until(FIRST).await;
    let earlier = game.rounds().await;
    let streamed = load(&game, client).await;
    let written: Vec<i64> = game.rounds().await.difference(&earlier).copied().collect();
    assert!(written.len() > 500, "{}", written.len());
    assert_eq!(sorted(streamed), written);
    let log = server.log().join("\n");
    assert!(!log.contains("ERROR") && !log.contains("permission denied"), "{log}");

    drop(server);
    game.detach().await;
    assert_eq!(dump(&game.database).await, before);
}
