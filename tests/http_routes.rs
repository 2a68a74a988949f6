//! HTTP routes that are not streams.

use reqwest::Method;

use testkit::{
    TestDatabase, TestServer, WsClient, cluster::free_port, get, http::request, raw_http, serving,
};

#[tokio::test]
async fn games_are_listed_in_the_format_of_the_contract() {
    let (database, server) = serving().await;
    let response = get(&server.http("/games")).await;
    assert_eq!((response.status, response.header("content-type")), (200, "application/json"));
    let games = response.json();
    let crash = games.as_array().expect("an array").iter().find(|game| game["slug"] == "crash");
    let id = database.text("select id::text from games where slug = 'crash'").await.expect("an id");
    let expected = format!(r#"{{"id":{id},"slug":"crash","name":"Crash","type":"multiplier"}}"#);
    assert_eq!(crash.expect("crash").to_string().len(), expected.len());
    assert!(response.body.contains(&expected), "{}", response.body);
    database.run("insert into games (slug, name, type) values ('new', 'New', 'kind')").await;
    testkit::eventually("the new game to be listed", || async {
        get(&server.http("/games")).await.body.contains(r#""slug":"new""#).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_latest_round_is_returned() {
    let (database, server) = serving().await;
    let id = database.finish("crash", r#"{"point": "11.72"}"#).await;
    testkit::eventually("the latest round", || async {
        let response = get(&server.http("/rounds/crash/latest")).await;
        (response.status == 200 && response.json()["round_id"] == id).then_some(())
    })
    .await;
    let response = get(&server.http("/rounds/crash/latest")).await;
    let round = testkit::WireRound::parse(&response.body);
    assert_eq!(round.extras, r#"{"point": "11.72"}"#);
    get(&server.http("/rounds/wall-street/latest")).await.assert_problem(404);
    get(&server.http("/rounds/nothing/latest")).await.assert_problem(404);
}

#[tokio::test]
async fn rounds_are_paged_newest_first() {
    let (database, server) = serving().await;
    let rounds = database.finish_many("crash", 12).await;
    let page = |path: String| {
        let url = server.http(&path);
        async move {
            let response = get(&url).await;
            assert_eq!(response.status, 200, "{}", response.body);
            let all = response.json();
            let all = all.as_array().expect("an array").clone();
            all.iter().map(|round| round["round_id"].as_i64().expect("an id")).collect::<Vec<_>>()
        }
    };
    let newest: Vec<i64> = rounds.iter().rev().copied().collect();
    assert_eq!(page("/rounds/crash".into()).await, newest);
    assert_eq!(page("/rounds/crash?limit=5".into()).await, newest[..5]);
    let next = page(format!("/rounds/crash?limit=5&before={}", newest[4])).await;
    assert_eq!(next, newest[5..10]);
    assert_eq!(page("/rounds/double".into()).await, Vec::<i64>::new());
    for bad in ["limit=0", "limit=1001", "limit=x", "before=%FF", "place=x"] {
        get(&server.http(&format!("/rounds/crash?{bad}"))).await.assert_problem(400);
    }
    for unknown in
        ["/rounds/crash?before=x", "/rounds?before=999999", "/rounds/nothing", "/rounds?type=x"]
    {
        get(&server.http(unknown)).await.assert_problem(404);
    }
}

#[tokio::test]
async fn an_unknown_game_type_or_path_is_a_404_problem() {
    let (_database, server) = serving().await;
    for path in [
        "/sse/nothing",
        "/sse/type/nothing",
        "/ws/nothing",
        "/ws/type/nothing",
        "/sse?game=nothing",
        "/nowhere",
    ] {
        get(&server.http(path)).await.assert_problem(404);
    }
    for path in ["/ws/nothing", "/ws/type/nothing", "/ws?game=crash&game=nothing"] {
        assert_eq!(WsClient::try_connect(&server.ws(path), &[]).await.err(), Some(404), "{path}");
    }
}

#[tokio::test]
async fn a_websocket_path_without_an_upgrade_is_426() {
    let (_database, server) = serving().await;
    for path in ["/ws", "/ws/crash", "/ws/type/multiplier"] {
        let response = get(&server.http(path)).await;
        response.assert_problem(426);
        assert_eq!(response.header("upgrade").to_ascii_lowercase(), "websocket");
    }
}

#[tokio::test]
async fn all_origins_are_allowed_by_default() {
    let (_database, server) = serving().await;
    let origin = [("origin", "https://example.com")];
    let response = request(&Method::GET, &server.http("/games"), &origin).await;
    assert_eq!(response.header("access-control-allow-origin"), "*");
    assert!(WsClient::try_connect(&server.ws("/ws/crash"), &origin).await.is_ok());
}

#[tokio::test]
async fn a_list_of_origins_guards_cors_and_the_handshake() {
    let database = TestDatabase::new().await;
    let allowed = "https://one.example,https://two.example";
    let server = TestServer::on(database.url()).env("DATASTREAM_ALLOWED_ORIGINS", allowed).start();
    let server = server.await;
    let (good, bad) = ([("origin", "https://two.example")], [("origin", "https://three.example")]);
    let response = request(&Method::GET, &server.http("/games"), &good).await;
    assert_eq!(response.header("access-control-allow-origin"), "https://two.example");
    let response = request(&Method::GET, &server.http("/games"), &bad).await;
    assert_eq!(response.header("access-control-allow-origin"), "");
    assert!(WsClient::try_connect(&server.ws("/ws/crash"), &good).await.is_ok());
    assert_eq!(WsClient::try_connect(&server.ws("/ws/crash"), &bad).await.err(), Some(403));
    // Clients other than browsers send no origin.
    assert!(WsClient::try_connect(&server.ws("/ws/crash"), &[]).await.is_ok());
}

#[tokio::test]
async fn healthz_reports_the_process_and_readyz_the_listener() {
    let nobody = format!("postgresql://postgres@127.0.0.1:{}/nothing", free_port());
    let server = TestServer::on(nobody).start_unready().await;
    assert_eq!(get(&server.http("/healthz")).await.status, 200);
    let response = get(&server.http("/readyz")).await;
    assert_eq!(response.status, 503);
    assert!(response.json().is_object(), "{}", response.body);
}

#[tokio::test]
async fn metrics_are_in_prometheus_text_format() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.finish("crash", "{}").await;
    client.next_round().await;
    let response = get(&server.http("/metrics")).await;
    assert_eq!(response.status, 200);
    assert!(!response.body.contains("slug"), "a label from user data");
    for name in [
        "datastream_listener_connected 1",
        "datastream_rounds_captured_total",
        "process_cpu_seconds_total",
    ] {
        assert!(response.body.contains(name), "{name} in {}", response.body);
    }
}

#[tokio::test]
async fn a_round_is_encoded_once_for_all_subscribers() {
    let (database, server) = serving().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(WsClient::connect(server.ws("/ws/crash")).await);
    }
    let rounds = database.finish_many("crash", 5).await;
    for client in &mut clients {
        client.rounds_until(rounds[4]).await;
    }
    let metrics = get(&server.http("/metrics")).await.body;
    assert!(metrics.contains("\ndatastream_frames_encoded_total 5\n"), "{metrics}");
}

#[tokio::test]
async fn the_live_page_is_html() {
    let (_database, server) = serving().await;
    let response = get(&server.http("/")).await;
    assert_eq!(response.status, 200);
    assert!(response.header("content-type").starts_with("text/html"), "{:?}", response.headers);
}

#[tokio::test]
async fn an_unsupported_method_is_405() {
    let (_database, server) = serving().await;
    for path in ["/games", "/sse/crash", "/rounds/crash"] {
        let response = request(&Method::DELETE, &server.http(path), &[]).await;
        assert_eq!(response.status, 405, "{path}");
    }
}

#[tokio::test]
async fn a_request_body_is_refused() {
    let (_database, server) = serving().await;
    let head = "GET /games HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    let answer = raw_http(server.addr, head).await.read_until("\r\n").await;
    let status: u16 = answer.split(' ').nth(1).expect("a status").parse().expect("a number");
    assert!((400..500).contains(&status), "{answer}");
}
