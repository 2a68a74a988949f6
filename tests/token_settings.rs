//! Access control: bad configuration, and what never is in a log.

use std::fs;

use testkit::{
    Signer, SseClient, TestDatabase, TestServer, WsClient, WtClient,
    binary::{Output, datastream},
    raw_http,
    token::{SECRET, in_seconds, opens},
};

/// Runs `serve` with these settings until it exits.
async fn serve(settings: &[(&str, &str)]) -> Output {
    let mut run = datastream(&["serve"]).env("DATABASE_URL", "postgresql://localhost/x");
    for (name, value) in settings {
        run = run.env(name, value);
    }
    run.run().await
}

#[tokio::test]
async fn bad_configuration_exits_with_2_and_one_line_that_names_the_option() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let keys = file("keys.pem", &Signer::es256().pem());
    let private = file(
        "private.pem",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n",
    );
    let (none, garbage) = (file("none.json", "{\"keys\":[]}"), file("garbage", "hush, hush"));
    let missing = folder.path().join("missing").to_str().expect("UTF-8").to_owned();
    let (secret, auth_keys) = ("DATASTREAM_AUTH_SECRET", "DATASTREAM_AUTH_KEYS");
    let (cookie, origins) = ("DATASTREAM_AUTH_COOKIE", "DATASTREAM_ALLOWED_ORIGINS");
    let page = "https://game.example";
    for (settings, says) in [
        (&[(secret, SECRET), (auth_keys, keys.as_str())][..], "--auth-keys (DATASTREAM_AUTH_KEYS)"),
        (&[(secret, "")], "--auth-secret (DATASTREAM_AUTH_SECRET)"),
        (&[(auth_keys, "")], "--auth-keys (DATASTREAM_AUTH_KEYS)"),
        (&[(auth_keys, " ")], "--auth-keys (DATASTREAM_AUTH_KEYS)"),
        (&[(secret, "31 bytes are too few for a key.")], "at least 32 bytes"),
        (&[(secret, SECRET), (cookie, "session")], "--auth-cookie (DATASTREAM_AUTH_COOKIE)"),
        (&[(secret, SECRET), (cookie, "session"), (origins, "*")], "--allowed-origins"),
        (
            &[(secret, SECRET), (cookie, "session"), (origins, "https://game.example,null")],
            "--auth-cookie",
        ),
        (&[(secret, SECRET), (cookie, "a b"), (origins, page)], "--auth-cookie"),
        (&[(secret, SECRET), ("DATASTREAM_AUTH_LEEWAY", "301s")], "--auth-leeway"),
        (&[(secret, SECRET), ("DATASTREAM_AUTH_LEEWAY", "soon")], "--auth-leeway"),
        (&[(auth_keys, "http://login.example/keys")], "--auth-keys (DATASTREAM_AUTH_KEYS)"),
        (&[(auth_keys, "https://user:hush@login.example/")], "--auth-keys"),
        (&[(auth_keys, "ftp://login.example/")], "--auth-keys (DATASTREAM_AUTH_KEYS)"),
        (&[(auth_keys, missing.as_str())], "--auth-keys (DATASTREAM_AUTH_KEYS)"),
        (&[(auth_keys, none.as_str())], "no usable key"),
        (&[(auth_keys, garbage.as_str())], "--auth-keys (DATASTREAM_AUTH_KEYS)"),
        (&[(auth_keys, private.as_str())], "private key"),
        // The secret was forgotten.
        (&[("DATASTREAM_AUTH_AUDIENCE", "feed")], "--auth-audience (DATASTREAM_AUTH_AUDIENCE)"),
        (&[(cookie, "session"), (origins, page)], "--auth-cookie (DATASTREAM_AUTH_COOKIE)"),
        (&[("DATASTREAM_NODE", "two words")], "--node"),
        (&[("DATASTREAM_INTERNAL_ADDR", "9000")], "--internal-addr"),
    ] {
        let output = serve(settings).await;
        assert_eq!(output.code, Some(2), "{settings:?}: {}", output.stderr);
        let errors: Vec<_> = output.stderr.lines().filter(|line| line.contains("error")).collect();
        assert!(errors.len() == 1 && errors[0].contains(says), "{says}: {}", output.stderr);
        for hidden in [SECRET, "31 bytes are too few", "hush"] {
            assert!(!output.stderr.contains(hidden), "{}", output.stderr);
        }
    }
}

#[tokio::test]
async fn an_empty_flag_is_refused_like_an_empty_variable() {
    for flag in ["--auth-secret=", "--auth-keys="] {
        let run = datastream(&["serve", flag]).env("DATABASE_URL", "postgresql://localhost/x");
        let output = run.run().await;
        assert_eq!(output.code, Some(2), "{}", output.stderr);
        assert!(output.stderr.contains(flag.trim_end_matches('=')), "{}", output.stderr);
    }
}

#[tokio::test]
async fn no_token_and_no_secret_is_in_any_log() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url())
        .env("RUST_LOG", "trace")
        .env("DATASTREAM_AUTH_SECRET", SECRET)
        .env("DATASTREAM_AUTH_COOKIE", "session")
        .env("DATASTREAM_AUTH_QUERY", "true")
        .env("DATASTREAM_AUTH_LEEWAY", "0s")
        .env("DATASTREAM_HEARTBEAT", "500ms")
        .env("DATASTREAM_ALLOWED_ORIGINS", "https://game.example")
        .web_transport()
        .start()
        .await;
    let signer = Signer::hs256(SECRET);
    let other = Signer::hs256("another secret of at least 32 bytes").opening(&["*"]);
    let claims = serde_json::json!({ "exp": in_seconds(3), "datastream": "*" });
    let (good, short) = (signer.token(&opens(&["*"])), signer.token(&claims));
    let mut ends = WsClient::connect(server.ws(&format!("/ws?token={short}"))).await;
    for token in [&good, &other, &short] {
        let bearer = [("authorization", format!("Bearer {token}"))];
        let cookie = [("cookie", format!("session={token}"))];
        let offered = [("sec-websocket-protocol", format!("datastream, bearer.{token}"))];
        for header in [&bearer, &cookie, &offered] {
            let headers = header.each_ref().map(|(name, value)| (*name, value.as_str()));
            drop(WsClient::try_connect(&server.ws("/ws"), &headers).await);
            drop(SseClient::connect_with(&server.http("/sse"), &headers).await);
        }
        for path in ["/sse", "/ws", "/nowhere", "/wt"] {
            let request = format!("GET {path}?token={token} HTTP/1.1\r\nhost: x\r\n\r\n");
            raw_http(server.addr, request).await.read_until("\r\n\r\n").await;
        }
        // Not HTTP at all.
        let broken = format!("GET /sse?token={token} HTTP/9\r\n\0\r\n\r\n");
        raw_http(server.addr, broken).await.read_to_end().await;
        drop(WtClient::try_connect(&server, &format!("/wt?token={token}")).await);
        drop(WtClient::try_connect(&server, &format!("/wt/nothing?token={token}")).await);
    }
    assert_eq!(ends.close_code().await, Some(4401));
    let round = database.finish("crash", "{}").await;
    let mut socket = WsClient::connect(server.ws(&format!("/ws?token={good}"))).await;
    assert_eq!(socket.next_round().await.round_id, round);
    server.signal("TERM");
    let (_, log) = server.last_words().await;
    assert!(log.len() > 100, "a log at trace: {} lines", log.len());
    for line in &log {
        for hidden in [&good, &other, &short] {
            let signature = hidden.rsplit('.').next().expect("a signature");
            assert!(!line.contains(signature), "{line}");
        }
        assert!(!line.contains(SECRET), "{line}");
    }
}

#[tokio::test]
async fn tail_sends_its_token_and_never_logs_it() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_AUTH_SECRET", SECRET);
    let server = server.start().await;
    let round = database.finish("crash", r#"{"point": "9.99"}"#).await;
    let token = Signer::hs256(SECRET).opening(&["game:crash"]);
    let tail = |game: &'static str| {
        datastream(&["tail", game, "--json"])
            .env("DATASTREAM_URL", server.http(""))
            .env("RUST_LOG", "trace")
    };
    let refused = tail("crash").run().await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("a token is needed"), "{}", refused.stderr);
    let refused = tail("double").env("DATASTREAM_TOKEN", &token).run().await;
    assert_eq!(refused.code, Some(1));
    let (_, signature) = token.rsplit_once('.').expect("a signature");
    assert!(!refused.stderr.contains(signature), "{}", refused.stderr);
    let says = "the token does not allow this selection";
    assert!(refused.stderr.contains(says), "{}", refused.stderr);
    let refused = tail("crash").env("DATASTREAM_TOKEN", "a\nb").run().await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("--token (DATASTREAM_TOKEN)"), "{}", refused.stderr);
    let mut printing = tail("crash");
    printing.command.arg("--token").arg(&token).stdout(std::process::Stdio::piped());
    let mut child = printing.command.spawn().expect("the binary");
    let lines = child.stdout.take().expect("a pipe");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(lines));
    let line = testkit::within("a line", async { lines.next_line().await.expect("read") }).await;
    assert!(line.expect("a line").contains(&format!("\"round_id\":{round},")));
}

/// The commands of the page that make a token.
fn commands_of_the_page() -> Vec<&'static str> {
    let page = include_str!("../docs/who-may-listen.md");
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.starts_with("python3 ") || block.starts_with("node ")).collect()
}

#[tokio::test]
async fn the_commands_of_the_page_make_tokens_that_open_what_they_name() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_AUTH_SECRET", SECRET);
    let server = server.start().await;
    let commands = commands_of_the_page();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        let program = command.split(' ').next().expect("a program");
        let installed = tokio::process::Command::new(program).arg("--version").output().await;
        if installed.is_err() {
            eprintln!("skipped: no {program}");
            continue;
        }
        let run = testkit::binary::program("bash", &["-c", command]);
        let output = run.env("DATASTREAM_AUTH_SECRET", SECRET).run().await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        let bearer = format!("Bearer {}", output.stdout.trim());
        let headers = [("authorization", bearer.as_str())];
        for (path, status) in [("/sse/crash", 200), ("/sse/double", 403)] {
            let head = reqwest::Method::HEAD;
            let response = testkit::http::request(&head, &server.http(path), &headers).await;
            assert_eq!(response.status, status, "{path} by {program}");
        }
    }
}
