//! Access control: which requests a token opens, and how the others are refused.

use reqwest::Method;
use serde_json::{Value, json};

use testkit::{
    Signer, SseClient, TestDatabase, TestServer, WsClient, WtClient, get,
    http::{Response, request},
    raw_http, serving,
    token::{SECRET, in_seconds, opens},
};
use wtransport::error::ConnectingError;

/// A server with the secret, and what signs its tokens.
async fn guarded(settings: &[(&str, &str)]) -> (TestDatabase, TestServer, Signer) {
    let database = TestDatabase::new().await;
    let mut server =
        TestServer::on(database.url()).env("DATASTREAM_AUTH_SECRET", SECRET).web_transport();
    for (name, value) in settings {
        server = server.env(name, value);
    }
    (database, server.start().await, Signer::hs256(SECRET))
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn get_with(server: &TestServer, path: &str, token: &str) -> Response {
    let authorization = bearer(token);
    request(&Method::GET, &server.http(path), &[("authorization", &authorization)]).await
}

/// Asserts the status, the text and the challenge of a refusal.
#[track_caller]
fn assert_refused(response: &Response, status: u16, detail: &str, challenge: &str) {
    response.assert_problem(status);
    assert_eq!(response.json()["detail"], detail);
    assert_eq!(response.header("www-authenticate"), challenge);
}

/// Every route that needs a token.
const GUARDED: [&str; 8] = [
    "/ws/crash",
    "/ws",
    "/sse/crash",
    "/sse/type/multiplier",
    "/games",
    "/rounds/crash",
    "/rounds/crash/latest",
    "/metrics",
];

#[tokio::test]
async fn every_route_of_the_feed_needs_a_token_and_the_others_do_not() {
    let (_database, server, signer) = guarded(&[]).await;
    for path in GUARDED {
        let response = get(&server.http(path)).await;
        assert_refused(&response, 401, "a token is needed", "Bearer");
        let response = get_with(&server, path, "nonsense").await;
        let challenge = "Bearer error=\"invalid_token\"";
        assert_refused(&response, 401, "the token cannot be read", challenge);
        let authorization = bearer(&signer.opening(&["*"]));
        let headers = [("authorization", authorization.as_str())];
        let response = request(&Method::HEAD, &server.http(path), &headers).await;
        assert!(response.status != 401 && response.status != 403, "{path}: {}", response.status);
    }
    let head = request(&Method::HEAD, &server.http("/sse/crash"), &[]).await;
    assert_eq!(head.status, 401);
    for path in ["/", "/client.js", "/page/main.js", "/wt/certificate", "/healthz", "/readyz"] {
        assert_eq!(get(&server.http(path)).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn each_bad_token_is_refused_with_its_reason() {
    let settings = [
        ("DATASTREAM_AUTH_AUDIENCE", "feed"),
        ("DATASTREAM_AUTH_ISSUER", "https://login.example"),
        ("DATASTREAM_AUTH_LEEWAY", "5s"),
    ];
    let (_database, server, signer) = guarded(&settings).await;
    let good = json!({
        "exp": in_seconds(600), "datastream": "*", "aud": ["feed", "other"],
        "iss": "https://login.example"
    });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        signer.token(&claims)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().expect("an object").remove(name);
        signer.token(&claims)
    };
    let header = |header: Value| signer.sign(&header.to_string(), &good.to_string());
    let twice = good.to_string().replacen('{', "{\"datastream\":[],", 1);
    let exp_twice = good.to_string().replacen('{', "{\"exp\":99999999999,", 1);
    let aud_twice = good.to_string().replacen('{', "{\"aud\":\"others\",", 1);
    let two_algorithms = signer.sign(r#"{"alg":"none","alg":"HS256"}"#, &good.to_string());
    let valid = signer.token(&good);
    let refused = [
        (header(json!({"alg": "none"})), "the token cannot be read"),
        (header(json!({"alg": "HS512"})), "the token's signature is of no known key"),
        (header(json!({"alg": "RS256"})), "the token's signature is of no known key"),
        (header(json!({"alg": "HS256", "crit": ["x"], "x": 1})), "the token cannot be read"),
        (signer.sign(&signer.header().to_string(), &twice), "the token cannot be read"),
        (signer.sign(&signer.header().to_string(), &exp_twice), "the token cannot be read"),
        (signer.sign(&signer.header().to_string(), &aud_twice), "the token cannot be read"),
        (two_algorithms, "the token cannot be read"),
        (signer.sign(&signer.header().to_string(), "[]"), "the token cannot be read"),
        (format!("{valid}="), "the token cannot be read"),
        (valid[..valid.len() - 2].to_owned(), "the token cannot be read"),
        (with("pad", "x".repeat(7000).into()), "the token cannot be read"),
        (
            Signer::hs256("another secret of 32 bytes or more").token(&good),
            "the token's signature is of no known key",
        ),
        (without("exp"), "the token has no exp"),
        (with("exp", in_seconds(600).to_string().into()), "the token has no exp"),
        (with("exp", Value::Null), "the token has no exp"),
        (with("exp", in_seconds(-6).into()), "the token has expired"),
        (with("nbf", in_seconds(60).into()), "the token is not valid yet"),
        (with("aud", "other".into()), "the token is for another audience"),
        (without("aud"), "the token is for another audience"),
        (with("iss", "https://evil.example".into()), "the token is of another issuer"),
        (without("iss"), "the token is of another issuer"),
    ];
    for (token, detail) in &refused {
        let response = get_with(&server, "/games", token).await;
        assert_refused(&response, 401, detail, "Bearer error=\"invalid_token\"");
    }
    for token in [valid, with("exp", in_seconds(-2).into()), with("nbf", in_seconds(3).into())] {
        assert_eq!(get_with(&server, "/games", &token).await.status, 200);
    }
    let metrics = get_with(&server, "/metrics", &signer.token(&good)).await.body;
    for line in [
        "{reason=\"unreadable\"} 10",
        "{reason=\"unknown_key\"} 3",
        "{reason=\"no_exp\"} 3",
        "{reason=\"expired\"} 1",
        "{reason=\"not_yet_valid\"} 1",
        "{reason=\"audience\"} 2",
        "{reason=\"issuer\"} 2",
        "{reason=\"missing\"} 0",
        "{reason=\"not_allowed\"} 0",
        "{reason=\"no_keys\"} 0",
    ] {
        let line = format!("\ndatastream_tokens_refused_total{line}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_token_with_an_audience_is_refused_unless_one_is_configured() {
    let (_database, server, signer) = guarded(&[]).await;
    let mut claims = opens(&["*"]);
    for audience in [json!("feed"), json!([]), json!(["feed"])] {
        claims["aud"] = audience;
        let response = get_with(&server, "/games", &signer.token(&claims)).await;
        assert_eq!(response.json()["detail"], "the token is for another audience");
    }
}

#[tokio::test]
async fn a_token_opens_what_it_names_and_a_selection_is_never_narrowed() {
    let (database, server, signer) = guarded(&[]).await;
    let allowed = |names: &'static [&'static str], path: &'static str| {
        let (token, url) = (signer.opening(names), server.http(path));
        async move {
            let response =
                request(&Method::HEAD, &url, &[("authorization", &bearer(&token))]).await;
            response.status
        }
    };
    for (names, path, status) in [
        (&["game:crash"][..], "/sse/crash", 200),
        (&["game:crash"], "/sse/double", 403),
        (&["game:crash"], "/sse", 403),
        (&["game:crash"], "/sse?game=crash&game=double", 403),
        (&["game:crash", "game:double"], "/sse?game=crash&game=double", 200),
        (&["type:multiplier"], "/sse/crash", 200),
        (&["type:multiplier"], "/sse/type/multiplier", 200),
        (&["type:multiplier"], "/sse/double", 403),
        (&["type:multiplier"], "/sse/type/color", 403),
        (&["type:multiplier"], "/sse?game=crash&type=color", 403),
        (&["type:multiplier"], "/sse", 403),
        // Whether the game exists is no business of this client.
        (&["type:multiplier"], "/sse/nothing", 403),
        (&["game:crash"], "/sse/nothing", 403),
        (&["game:nothing"], "/sse/nothing", 404),
        (&["type:nothing"], "/sse/type/nothing", 404),
        (&["*"], "/sse/nothing", 404),
        (&["*"], "/sse", 200),
        (&[], "/sse/crash", 403),
        (&["crash", "game:*"], "/sse/crash", 403),
        (&["game:crash"], "/rounds/crash", 200),
        (&["game:crash"], "/rounds/double", 403),
        (&["game:crash"], "/rounds/nothing/latest", 403),
        (&["game:crash", "type:color"], "/metrics", 403),
    ] {
        assert_eq!(allowed(names, path).await, status, "{path} with {names:?}");
    }
    let response = get_with(&server, "/sse/double", &signer.opening(&["game:crash"])).await;
    let challenge = "Bearer error=\"insufficient_scope\"";
    assert_refused(&response, 403, "the token does not allow this selection", challenge);
    // A game that was added a moment ago belongs to its type.
    database.run("insert into games (slug, name, type) values ('new', 'New', 'multiplier')").await;
    assert_eq!(allowed(&["type:multiplier"], "/sse/new").await, 200);
}

#[tokio::test]
async fn the_list_of_games_has_those_that_the_token_opens() {
    let (_database, server, signer) = guarded(&[]).await;
    let slugs = |names: &'static [&'static str]| {
        let token = signer.opening(names);
        let server = &server;
        async move {
            let response = get_with(server, "/games", &token).await;
            assert_eq!(response.header("cache-control"), "private, no-cache");
            let games = response.json();
            let games = games.as_array().expect("an array").iter();
            let mut slugs: Vec<_> =
                games.map(|game| game["slug"].as_str().expect("a slug").to_owned()).collect();
            slugs.sort();
            slugs
        }
    };
    let all = slugs(&["*"]).await;
    assert!(all.len() > 2, "{all:?}");
    assert_eq!(slugs(&["game:crash", "type:color"]).await, ["crash", "double"]);
    assert_eq!(slugs(&["game:nothing"]).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_token_is_taken_from_each_place_on_each_transport() {
    let origins = "https://game.example";
    let settings = [
        ("DATASTREAM_AUTH_COOKIE", "session"),
        ("DATASTREAM_ALLOWED_ORIGINS", origins),
        ("DATASTREAM_AUTH_QUERY", "true"),
    ];
    let (database, server, signer) = guarded(&settings).await;
    let token = signer.opening(&["game:crash"]);
    let (authorization, cookie) = (bearer(&token), format!("a=b; session={token}"));
    let offered = format!("datastream, bearer.{token}");
    let query = format!("?token={token}");
    let cases: [(&str, &[(&str, &str)]); 4] = [
        ("", &[("authorization", &authorization)]),
        ("", &[("sec-websocket-protocol", &offered)]),
        ("", &[("cookie", &cookie)]),
        (&query, &[]),
    ];
    let mut streams = Vec::new();
    for (query, headers) in cases {
        let path = format!("/ws/crash{query}");
        streams.push(WsClient::try_connect(&server.ws(&path), headers).await.expect("a stream"));
        let is_subprotocol = headers.iter().any(|(name, _)| name.starts_with("sec-"));
        let sse = SseClient::connect_with(&server.http(&format!("/sse/crash{query}")), headers);
        assert_eq!(sse.await.status, if is_subprotocol { 401 } else { 200 }, "{headers:?}");
    }
    let wt = WtClient::connect(&server, &format!("/wt/crash?token={token}")).await;
    let round = database.finish("crash", "{}").await;
    for stream in &mut streams {
        assert_eq!(stream.next_round().await.round_id, round);
    }
    assert_eq!(wt.next_datagram().await.round_id, round);
    let refused = WtClient::try_connect(&server, "/wt/crash").await;
    assert!(matches!(refused, Err(ConnectingError::SessionRejected)), "{refused:?}");
    let double = format!("/wt/double?token={token}");
    let refused = WtClient::try_connect(&server, &double).await;
    assert!(matches!(refused, Err(ConnectingError::SessionRejected)), "{refused:?}");
}

#[tokio::test]
async fn a_bad_token_is_not_replaced_by_a_good_one_in_a_later_place() {
    let settings = [
        ("DATASTREAM_AUTH_COOKIE", "session"),
        ("DATASTREAM_ALLOWED_ORIGINS", "https://game.example"),
    ];
    let (_database, server, signer) = guarded(&settings).await;
    let good = format!("session={}", signer.opening(&["*"]));
    let status = |first: &'static str| {
        let headers = [("authorization", first), ("cookie", good.as_str())];
        let sent = request(&Method::HEAD, &server.http("/sse"), &headers);
        async move { sent.await.status }
    };
    assert_eq!(status("Bearer nonsense").await, 401);
    assert_eq!(status("Bearer ").await, 401);
    // The credentials of a proxy in front.
    assert_eq!(status("Basic dXNlcjpwYXNz").await, 200);
    let basic = [("authorization", "Basic dXNlcjpwYXNz")];
    let alone = request(&Method::GET, &server.http("/sse"), &basic).await;
    assert_refused(&alone, 401, "a token is needed", "Bearer");
}

#[tokio::test]
async fn a_query_holds_a_token_only_if_it_is_configured() {
    let (_database, server, signer) = guarded(&[]).await;
    let query = format!("?token={}", signer.opening(&["*"]));
    for path in ["/sse", "/ws", "/games", "/rounds/crash"] {
        let response = get(&server.http(&format!("{path}{query}"))).await;
        assert_refused(&response, 401, "a token is needed", "Bearer");
    }
    WtClient::connect(&server, &format!("/wt{query}")).await;
}

#[tokio::test]
async fn the_answer_to_subprotocols_is_ours_and_never_the_token() {
    let (_database, server, signer) = guarded(&[]).await;
    let token = signer.opening(&["*"]);
    let handshake = |offered: &str| {
        format!(
            "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: {offered}\r\n\r\n"
        )
    };
    let offered = format!("datastream, bearer.{token}");
    let head = raw_http(server.addr, handshake(&offered)).await.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 ") && !head.contains(&token), "{head}");
    assert!(head.to_ascii_lowercase().contains("sec-websocket-protocol: datastream\r\n"), "{head}");
    let alone = handshake(&format!("bearer.{token}"));
    let head = raw_http(server.addr, alone).await.read_until("\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 101 ") && !head.contains("sec-websocket-protocol"),
        "{head}"
    );
}

#[tokio::test]
async fn refusals_come_in_the_order_of_the_contract() {
    let settings = [("DATASTREAM_ALLOWED_ORIGINS", "https://game.example")];
    let (_database, server, signer) = guarded(&settings).await;
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let evil = ("origin", "https://evil.example");
    let (all, crash) = (bearer(&signer.opening(&["*"])), bearer(&signer.opening(&["game:crash"])));
    let status = |path: &'static str, more: Vec<(&'static str, String)>, is_upgrade: bool| {
        let mut headers: Vec<(&str, &str)> = if is_upgrade { upgrade.into() } else { Vec::new() };
        headers.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
        let sent = request(&Method::GET, &server.http(path), &headers);
        async move { sent.await.status }
    };
    let with = |token: &str| vec![("authorization", token.to_owned())];
    let evil = || vec![(evil.0, evil.1.to_owned())];
    assert_eq!(status("/ws/nothing?after=x%00", evil(), true).await, 400);
    assert_eq!(status("/ws/nothing", evil(), true).await, 403);
    assert_eq!(status("/ws/nothing", Vec::new(), true).await, 401);
    assert_eq!(status("/ws/nothing", with(&crash), true).await, 403);
    assert_eq!(status("/ws/nothing", with(&all), false).await, 404);
    assert_eq!(status("/ws/crash", with(&all), false).await, 426);
}

#[tokio::test]
async fn a_preflight_needs_no_token_and_credentials_are_for_listed_origins() {
    let origins = "https://game.example,null";
    let (_database, server, signer) = guarded(&[("DATASTREAM_ALLOWED_ORIGINS", origins)]).await;
    let preflight = |origin: &'static str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "authorization,last-event-id"),
        ];
        request(&Method::OPTIONS, &server.http("/sse/crash"), &headers)
    };
    let answer = preflight("https://game.example").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), "https://game.example");
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert_eq!(answer.header("access-control-allow-headers"), "authorization,last-event-id");
    let answer = preflight("null").await;
    assert_eq!(answer.header("access-control-allow-origin"), "null");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    let headers = [("origin", "https://game.example")];
    let refused = request(&Method::GET, &server.http("/games"), &headers).await;
    assert_eq!((refused.status, refused.header("access-control-allow-credentials")), (401, "true"));
    drop(signer);
}

#[tokio::test]
async fn without_keys_every_client_may_listen_and_tokens_are_ignored() {
    let (_database, server) = serving().await;
    for path in ["/games", "/rounds/crash", "/metrics"] {
        assert_eq!(get_with(&server, path, "nonsense").await.status, 200, "{path}");
    }
    assert_eq!(get(&server.http("/games")).await.header("cache-control"), "no-cache");
    assert_eq!(get(&server.http("/games")).await.header("access-control-allow-credentials"), "");
    let offered = [("sec-websocket-protocol", "datastream")];
    assert!(WsClient::try_connect(&server.ws("/ws/crash"), &offered).await.is_ok());
}
