//! Columns of other types are cast to the types of the view; attach refuses and names columns that
//! cannot be cast.

use testkit::{
    TestDatabase, TestServer, WsClient,
    game::{attach, migrated_game, psql, refused, run},
};

/// Types as ORMs generate them: a precision, domains of domains, collations, lengths.
const TYPED: &str = r#"
    create domain moment as timestamptz(3); create domain ending as moment;
    create domain number as integer check (value > 0); create domain key as number;
    create domain word as text collate "C";
    create table titles (id key primary key, slug varchar(20) collate "C", name char(8), type word);
    insert into titles values (1, 'crash', 'Crash', 'multiplier');
    create table plays (id key primary key, game_id key, ended ending, extras text collate "POSIX");
    create table beside (id bigint primary key, game_id smallint, finished_at timestamp(6), extras json,
      slug char(4), type "char");
"#;

const PLAYS: [&str; 7] =
    ["--table", "plays", "--finished-at", "ended", "--games", "titles", "--index"];
const BESIDE: [&str; 6] = ["--table", "beside", "--slug-column", "slug", "--type-column", "type"];

#[tokio::test]
async fn columns_with_a_precision_a_domain_or_a_collation_are_cast_to_the_types_of_the_view() {
    let database = TestDatabase::empty().await; // attach makes the schema alone
    database.run(TYPED).await;
    // With no, one and two tables, and with the other one: each view replaces one with other types.
    attach(&database, &PLAYS).await;
    attach(&database, &BESIDE).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.run("insert into plays values (7, 1, '2026-01-17 00:45:42.1239Z', '{\"a\":1}')").await;
    let round = client.next_round().await;
    assert_eq!((round.round_id, round.game_id), (7, 1));
    assert_eq!((&*round.game_slug, &*round.game_type), ("crash", "multiplier"));
    assert_eq!((&*round.finished_at, &*round.extras), ("2026-01-17T00:45:42.124Z", "{\"a\": 1}"));
    drop(server);
    let insert = "insert into beside values (100000, 5, '2026-01-17 00:45:42', '{}', 'dice', 'c')";
    database.run(insert).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/dice")).await;
    assert_eq!(client.next_round().await.game_slug, "dice", "the seed");
    drop(server);
    for table in ["plays", "beside"] {
        let output = run(&database, "detach", &["--table", table]).await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
    }
}

#[tokio::test]
async fn an_existing_rounds_table_with_another_precision_is_migrated_and_streamed() {
    let database = TestDatabase::empty().await;
    database
        .run(
            "create table games (id bigint primary key, slug text not null unique, name text not null, \
               type text not null); \
             create table rounds (id bigint primary key, game_id bigint not null references games, \
               finished_at timestamptz(6), extras jsonb not null default '{}'); \
             insert into games values (1, 'crash', 'Crash', 'multiplier')",
        )
        .await;
    let output = run(&database, "migrate", &[]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.run("insert into rounds values (1, 1, now(), '{}')").await;
    assert_eq!(client.next_round().await.round_id, 1);
}

#[tokio::test]
async fn the_query_for_the_latest_round_uses_the_index_for_all_column_types() {
    let database = migrated_game(TYPED).await;
    attach(&database, &PLAYS).await;
    attach(&database, &BESIDE).await;
    database
        .run(
            "insert into titles select n, 'g' || n, 'n', 't' from generate_series(2, 50) n; \
             insert into plays select n, n % 50 + 1, now() - n * interval '1 s', '{}' \
               from generate_series(1, 20000) n; analyze",
        )
        .await;
    let latest = include_str!("../sql/latest_by_game.sql");
    let explain = format!("explain (analyze, costs off, timing off) {latest}");
    let plan = psql(&database, &["-A", "-t", "-c", &explain]).await;
    assert!(plan.stdout.contains("using datastream_latest_2 on plays"), "{plan:?}");
    let by_id =
        "explain (costs off) select * from datastream.rounds_by_id(null, array[1, 2, 3], null)";
    let plan = psql(&database, &["-A", "-t", "-c", by_id]).await;
    assert!(plan.stdout.contains("plays_pkey"), "{}", plan.stdout);
}

#[tokio::test]
async fn options_that_would_be_ignored_are_refused() {
    let database = migrated_game(TYPED).await;
    let plays = ["--table", "plays", "--finished-at", "ended"];
    let beside = ["--table", "beside"];
    for (table, options, told) in [
        (
            &plays[..],
            &["--games", "titles", "--type-column", "extras"][..],
            "Pass --games-type, or --slug-column with --type-column.",
        ),
        (
            &plays,
            &["--games", "titles", "--type", "t", "--games-type", "type"],
            "Pass --games-type or --type, not both.",
        ),
        (&plays, &["--games", "titles", "--time-zone", "Asia/Kolkata"], "Leave out --time-zone."),
        (
            &beside,
            &["--slug-column", "slug", "--type-column", "type", "--games-id", "id"],
            "Pass --games with its columns, or --slug or --slug-column, not both.",
        ),
    ] {
        let said = refused(&database, &[table, options].concat()).await;
        assert!(said.contains(told), "{told} in {said}");
    }
    attach(&database, &[&plays[..], &["--games", "titles", "--type", "kind"]].concat()).await;
}

#[tokio::test]
async fn a_virtual_generated_column_is_refused() {
    let database = TestDatabase::empty().await;
    let virtual_columns = "select (current_setting('server_version_num')::integer >= 180000)::text";
    if database.text(virtual_columns).await.as_deref() != Some("true") {
        return;
    }
    database
        .run(
            "create table plays (id bigint primary key, at timestamptz, point int, \
               twice int generated always as (point * 2) virtual, \
               thrice int generated always as (point * 3) stored)",
        )
        .await;
    let game = ["--slug", "one", "--type", "kind", "--game-id-value", "1"];
    let table = ["--table", "plays", "--finished-at", "at", "--extras-columns"];
    let said = refused(&database, &[&table[..], &["point,twice"], &game].concat()).await;
    assert!(said.contains("column \"twice\" is generated and not stored"), "{said}");
    attach(&database, &[&table[..], &["point,thrice"], &game].concat()).await;
}
