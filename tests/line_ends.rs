//! Characters that line readers of SSE libraries take for the end of a line.

use testkit::{SseClient, TestDatabase, TestServer, WsClient, WtClient, get};

const RAW: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

#[tokio::test]
async fn no_transport_sends_a_raw_line_end_within_a_string() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).web_transport().start().await;
    let extras = "{\"a\": \"x\u{2028}y\u{2029}\", \"b\u{85}\": \"é\"}";
    let id = database.finish_streamed(&server, "crash", extras).await;
    // jsonb orders keys by their length in bytes.
    let expected = "{\"a\": \"x\u{2028}y\u{2029}\", \"b\u{85}\": \"é\"}";

    let (_, seed) = SseClient::connect(&server.http("/sse/crash")).await.next_event().await;
    let socket = WsClient::connect(server.ws("/ws/crash")).await.next_round().await;
    let session = WtClient::connect(&server, "/wt/crash").await.next_stream_round().await;
    let after = format!("/ws/crash?after={id}");
    let mut resumed = WsClient::connect(server.ws(&after)).await;
    let live = database.finish("crash", extras).await;
    let replayed = resumed.next_round().await;
    assert_eq!(replayed.round_id, live);
    for round in [&seed, &socket, &session, &replayed] {
        assert_eq!(round.extras, expected);
        assert!(!round.text.contains(RAW), "{}", round.text);
        assert!(round.text.contains("\\\"x\\u2028y\\u2029\\\""), "{}", round.text);
        assert!(round.text.contains("b\\u0085") && round.text.contains('é'), "{}", round.text);
    }
    for path in ["/rounds/crash", "/rounds/crash/latest"] {
        let list = get(&server.http(path)).await.body;
        assert!(!list.contains(RAW) && list.contains("x\\u2028y\\u2029"), "{list}");
    }
}

#[tokio::test]
async fn names_of_the_game_are_escaped_too() {
    let database = TestDatabase::new().await;
    database
        .run("insert into games (slug, name, type) values ('odd', 'Odd', E'line\\u2028end')")
        .await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/odd")).await;
    database.finish("odd", "{}").await;
    let round = client.next_round().await;
    assert_eq!(round.game_type, "line\u{2028}end");
    assert!(round.text.contains(r#""game_type":"line\u2028end""#), "{}", round.text);
}
