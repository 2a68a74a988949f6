//! `serve --read-only`: a database to which nothing may be added.

use testkit::{TestDatabase, TestServer, WsClient, eventually, get, round::ids, server::Builder};

const GAME: &str = "create schema game; \
    create table game.titles (id smallint primary key, code text, title text, kind text); \
    insert into game.titles values (1, 'crash', 'Crash', 'multiplier'), (2, 'double', 'Double', 'color'); \
    create table game.results (result_id int generated always as identity primary key, \
      title_id smallint, ended_at timestamp, payload json); \
    create index on game.results (timezone('UTC', ended_at))";
const ROUNDS: &str = "select result_id as round_id, title_id as game_id, \
    timezone('UTC', ended_at) as finished_at, payload as extras from game.results -- theirs";
const GAMES: &str = "select id, code as slug, title as name, kind as type from game.titles;";
const FINISH: &str = "insert into game.results (title_id, ended_at, payload) \
    values (1, timezone('UTC', clock_timestamp()), '{\"a\":  1}') returning result_id::text";

async fn game() -> TestDatabase {
    let database = TestDatabase::empty().await;
    database.run(GAME).await;
    let reader = format!("{}_looker", database.name);
    database
        .run(&format!(
            "create role {reader} login; grant usage on schema game to {reader}; \
             grant select on all tables in schema game to {reader}"
        ))
        .await;
    database
}

/// A server with a role that may only read two tables.
fn server(database: &TestDatabase) -> Builder {
    let url = database.url_through(database.address.tcp_port);
    TestServer::on(url.replace("postgres@", &format!("{}_looker@", database.name)))
        .env("DATASTREAM_READ_ONLY", "true")
        .env("DATASTREAM_READ_ONLY_ROUNDS", ROUNDS)
        .env("DATASTREAM_READ_ONLY_GAMES", GAMES)
}

async fn finish(database: &TestDatabase) -> i64 {
    database.text(FINISH).await.and_then(|id| id.parse().ok()).expect("an id")
}

#[tokio::test]
async fn a_read_only_game_is_streamed_seeded_and_resumed() {
    let database = game().await;
    let first = finish(&database).await;
    let running = server(&database).start().await;
    let mut client = WsClient::connect(running.ws("/ws/crash")).await;
    running.counts("datastream_listener_connected 1").await;
    let seed = client.next_round().await;
    assert_eq!((seed.round_id, &*seed.extras), (first, "{\"a\": 1}"));
    let second = finish(&database).await;
    assert_eq!(client.next_round().await.round_id, second);
    database.run("insert into game.results (title_id) values (1)").await;
    database
        .run("update game.results set ended_at = timezone('UTC', now()) where ended_at is null")
        .await;
    let third = client.next_round().await.round_id;
    let mut resumed = WsClient::connect(running.ws(&format!("/ws/crash?after={second}"))).await;
    assert_eq!(resumed.next_round().await.round_id, third);
    drop(running);
    let running = server(&database).start().await;
    let mut resumed = WsClient::connect(running.ws(&format!("/ws/crash?after={second}"))).await;
    // Another process: at least once, without loss.
    let came = ids(&resumed.rounds(2).await);
    assert!(came.contains(&third) && came.contains(&first), "{came:?}");
    let page = get(&running.http("/rounds/crash?limit=2")).await.body;
    assert!(page.contains(&format!("\"round_id\":{third}")), "{page}");
    assert!(get(&running.http("/games")).await.body.contains("\"name\":\"Double\""));
    let made = "select count(*)::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
        where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'game')";
    assert_eq!(database.text(made).await.as_deref(), Some("0"), "nothing is made");
}

#[tokio::test]
async fn a_late_commit_within_the_overlap_is_streamed_once_and_one_beyond_it_is_lost_as_documented()
{
    let database = game().await;
    let running = server(&database).start().await;
    let mut late = database.pool.acquire().await.expect("a connection");
    let insert = "begin; insert into game.results (title_id, ended_at) values (1, timezone('UTC', now() - interval '2 s'))";
    sqlx::raw_sql(insert).execute(&mut *late).await.expect("an open transaction");
    let mut client = WsClient::connect(running.ws("/ws/crash")).await;
    let early = finish(&database).await;
    assert_eq!(client.next_round().await.round_id, early);
    sqlx::raw_sql("commit").execute(&mut *late).await.expect("a commit");
    assert_eq!(client.next_round().await.round_id, early - 1);
    database.run("insert into game.results (title_id, ended_at) values (1, timezone('UTC', now() - interval '1 hour'))").await;
    let last = finish(&database).await;
    assert_eq!(client.next_round().await.round_id, last);
}

#[tokio::test]
async fn rounds_finished_during_an_outage_are_streamed_once() {
    let database = game().await;
    let running = server(&database).start().await;
    let mut client = WsClient::connect(running.ws("/ws/crash")).await;
    let before = finish(&database).await;
    assert_eq!(client.next_round().await.round_id, before);
    database.terminate_server_sessions().await;
    let missed = [finish(&database).await, finish(&database).await];
    assert_eq!(ids(&client.rounds(2).await), missed);
    let after = finish(&database).await;
    assert_eq!(client.next_round().await.round_id, after);
}

/// Replaces PostgreSQL's clock for the role of the server.
async fn set_clock(database: &TestDatabase, shift: &str) {
    let looker = format!("{}_looker", database.name);
    database
        .run(&format!(
            "create schema if not exists fake; create or replace function fake.clock_timestamp() \
             returns timestamptz language sql as $$ select pg_catalog.clock_timestamp() + interval '{shift}' $$; \
             grant usage on schema fake to {looker}; alter role {looker} set search_path = fake, pg_catalog"
        ))
        .await;
}

/// Finishes a round at the time of that clock.
async fn finish_by(database: &TestDatabase, shift: &str) -> i64 {
    let finish = FINISH.replace("clock_timestamp()", &format!("now() + interval '{shift}'"));
    database.text(&finish).await.and_then(|id| id.parse().ok()).expect("an id")
}

#[tokio::test]
async fn a_clock_that_is_set_back_repeats_no_round() {
    let database = game().await;
    set_clock(&database, "0 s").await;
    let running = server(&database).start().await;
    let mut client = WsClient::connect(running.ws("/ws/crash")).await;
    let first = finish_by(&database, "0 s").await;
    assert_eq!(client.next_round().await.round_id, first);
    // The overlap is 10 s: the first round leaves it and enters it again.
    for shift in ["15 s", "8 s", "8 s", "1 hour"] {
        set_clock(&database, shift).await;
        let round = finish_by(&database, shift).await;
        assert_eq!(client.next_round().await.round_id, round, "{shift}");
    }
    set_clock(&database, "8 s").await;
    eventually("the step to be noticed", || async {
        running.log().iter().any(|line| line.contains("clock was set back")).then_some(())
    })
    .await;
    for _ in 0..2 {
        let round = finish_by(&database, "8 s").await;
        assert_eq!(client.next_round().await.round_id, round);
    }
}

#[tokio::test]
async fn tables_may_have_any_name() {
    let database = game().await;
    let looker = format!("{}_looker", database.name);
    let tables = "create table public.games (id int, code text); \
        insert into games values (1, 'crash'); create view public.finished as select * from game.results; \
        create view public.source as select * from finished; grant select on games, source to ";
    database.run(&format!("{tables}{looker}")).await;
    let rounds = "select s.result_id as round_id, g.id as game_id, \
        timezone('UTC', s.ended_at) as finished_at, s.payload as extras \
        from source s join games g on g.code = 'crash' and g.id = s.title_id";
    let running = server(&database).env("DATASTREAM_READ_ONLY_ROUNDS", rounds).start().await;
    let mut client = WsClient::connect(running.ws("/ws/crash")).await;
    let first = finish(&database).await;
    assert_eq!(client.next_round().await.round_id, first);
}

#[tokio::test]
async fn serve_refuses_and_doctor_reports_a_finished_at_without_time_zone() {
    let database = game().await;
    let unzoned = ROUNDS.replace("timezone('UTC', ended_at)", "ended_at");
    let run = |words: &'static [&'static str], rounds: String| {
        let run = testkit::binary::datastream(words).env("DATABASE_URL", database.url());
        let run = run.env("DATASTREAM_READ_ONLY_ROUNDS", rounds);
        run.env("DATASTREAM_READ_ONLY_GAMES", GAMES).env("DATASTREAM_READ_ONLY", "true").run()
    };
    let served = run(&["serve", "--http-addr", "127.0.0.1:0"], unzoned.clone()).await;
    assert_eq!(served.code, Some(1), "{}", served.stderr);
    assert!(served.stderr.contains("finished_at has no time zone"), "{}", served.stderr);
    let told = run(&["doctor"], unzoned).await;
    assert_eq!(told.code, Some(1), "{}", told.stdout);
    assert!(told.stdout.contains("FAILED   read-only: "), "{}", told.stdout);
    let missing = run(&["doctor"], "select 1 as round_id, 1 as game_id".to_owned()).await;
    assert!(missing.stdout.contains("finished_at does not exist"), "{}", missing.stdout);
    let well = run(&["doctor"], ROUNDS.to_owned()).await;
    assert_eq!(well.code, Some(0), "{}", well.stdout);
    assert!(!well.stdout.contains("schema"), "{}", well.stdout);
}

#[tokio::test]
async fn an_invalid_query_exits_with_1() {
    let database = game().await;
    let run = testkit::binary::datastream(&["serve", "--read-only"])
        .env("DATABASE_URL", database.url())
        .env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0")
        .env("DATASTREAM_READ_ONLY_ROUNDS", "select nonsense from game.results")
        .env("DATASTREAM_READ_ONLY_GAMES", GAMES);
    let output = run.run().await;
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("nonsense"), "{}", output.stderr);
}

#[tokio::test]
async fn rounds_and_games_with_ids_of_other_types_are_streamed_listed_and_resumed() {
    for (round_type, ids) in [
        ("uuid", ["a0000000-0000-0000-0000-000000000001", "a0000000-0000-0000-0000-000000000002"]),
        ("text", ["a/1", "a/2"]),
        ("numeric", ["5", "6"]),
    ] {
        let database = TestDatabase::empty().await;
        let made = format!(
            "create table games (id text primary key, slug text, name text, type text); \
             insert into games values ('g 1', 'crash', 'Crash', 'multiplier'); \
             create table plays (id {round_type} primary key, game text, at timestamptz, extras jsonb)"
        );
        database.run(&made).await;
        let finish = async |id: &str| {
            database.run(&format!("insert into plays values ('{id}', 'g 1', now(), '{{}}')")).await;
        };
        finish(ids[0]).await;
        let server = TestServer::on(database.url())
            .env("DATASTREAM_READ_ONLY", "true")
            .env(
                "DATASTREAM_READ_ONLY_ROUNDS",
                "select id as round_id, game as game_id, at as finished_at, extras from plays",
            )
            .env("DATASTREAM_READ_ONLY_GAMES", "select id, slug, name, type from games")
            .start()
            .await;
        let mut client = WsClient::connect(server.ws("/ws/crash")).await;
        let seed = client.next_text().await;
        assert!(
            seed.starts_with(&format!("{{\"round_id\":\"{}\",\"game_id\":\"g 1\"", ids[0])),
            "{seed}"
        );
        finish(ids[1]).await;
        let id = format!("\"round_id\":\"{}\"", ids[1]);
        assert!(client.next_text().await.contains(&id));
        let named = ids[1].replace('/', "%2F");
        let page = get(&server.http(&format!("/rounds/crash?before={named}"))).await.body;
        assert!(page.starts_with(&format!("[{{\"round_id\":\"{}\"", ids[0])), "{page}");
        let after = format!("/ws/crash?after={}", ids[0].replace('/', "%2F"));
        let mut resumed = WsClient::connect(server.ws(&after)).await;
        assert!(resumed.next_text().await.contains(&id));
    }
}
