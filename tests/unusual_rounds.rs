//! Unusual rounds of an attached table: they affect no other round.

use testkit::{
    TestDatabase, TestServer, WsClient,
    game::{attach, dice, migrated_game, psql},
    get,
    round::ids,
};

/// A table whose extras are built from columns.
const ODD: &str = "create table odd (id bigint primary key, at timestamp, j json, n int)";

async fn odd(more: &[&str]) -> TestDatabase {
    let database = migrated_game(ODD).await;
    let own = ["--extras-columns", "n,j", "--time-zone", "America/New_York"];
    attach(&database, &dice("odd", &[&own, more].concat())).await;
    database
}

/// Runs a statement of the game and asserts that it raises no warning.
async fn writes(database: &TestDatabase, statement: &str) {
    let output = psql(database, &["-v", "ON_ERROR_STOP=1", "-c", statement]).await;
    assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{statement}");
}

#[tokio::test]
async fn json_that_is_invalid_as_jsonb_is_streamed_unchanged() {
    for capture in ["auto", "poll"] {
        let database = odd(&["--capture", capture]).await;
        let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start().await;
        let mut client = WsClient::connect(server.ws("/ws/dice")).await;
        let values = [r#""\u0000""#, r#""\ud800""#, "1e999999", r#"{"b":1,  "a":2}"#];
        for (id, json) in (1..).zip(values) {
            writes(&database, &format!("insert into odd values ({id}, now(), '{json}', 5)")).await;
        }
        let rounds = client.rounds(4).await;
        let extras: Vec<&str> = rounds.iter().map(|round| &*round.extras).collect();
        let expected = [
            r#"{"n" : 5, "j" : "\u0000"}"#,
            r#"{"n" : 5, "j" : "\ud800"}"#,
            r#"{"n" : 5, "j" : 1e999999}"#,
            r#"{"j": {"a": 2, "b": 1}, "n": 5}"#,
        ];
        assert_eq!(extras, expected, "{capture}");
        let page = get(&server.http("/rounds/dice")).await;
        assert_eq!((page.status, page.json().as_array().map(Vec::len)), (200, Some(4)));
        let mut client = WsClient::connect(server.ws("/ws/dice?after=1")).await;
        assert_eq!(ids(&client.rounds(3).await), [2, 3, 4], "from the database");
    }
}

#[tokio::test]
async fn a_timestamp_shifted_out_of_range_by_its_zone_fails_neither_the_game_nor_the_stream() {
    let database = odd(&["--index"]).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/dice")).await;
    writes(&database, "insert into odd values (1, '294276-12-31 23:00', '{}', 1)").await;
    writes(&database, "insert into odd values (2, '2026-07-01 12:00', '{}', 1)").await;
    let round = client.next_round().await;
    assert_eq!((round.round_id, &*round.finished_at), (2, "2026-07-01T16:00:00Z"));
    server.counts("datastream_rounds_skipped_total{reason=\"out_of_range\"} 1").await;
    let named = |line: &String| line.contains("cannot be sent") && line.contains("round.id=1");
    assert!(server.log().iter().any(named), "{:?}", server.log());
    let seed = "explain select round_id from datastream.rounds_of(77, null, '10000-01-01', null, null, '0001-01-01', 1)";
    database.run("insert into odd select i, now(), '{}', 1 from generate_series(10, 2000) i; analyze odd").await;
    let plan = psql(&database, &["-A", "-t", "-c", seed]).await.stdout;
    assert!(plan.contains("Scan using datastream_latest_2 on odd"), "{plan}");
}
