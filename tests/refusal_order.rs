//! Of several reasons for a refusal, each transport names the first one in the order of the contract.

use reqwest::Method;

use testkit::{
    Signer, TestDatabase, TestServer, WsClient, http::request, token::SECRET, wt_request,
};

const EVIL: (&str, &str) = ("origin", "https://evil.example");
const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A full server that needs tokens and allows one origin; its stream, and two `Authorization` headers:
/// for everything, and for one game.
struct Full {
    _database: TestDatabase,
    server: TestServer,
    _stream: WsClient,
    all: String,
    crash: String,
}

impl Full {
    async fn start() -> Self {
        let database = TestDatabase::new().await;
        let server = TestServer::on(database.url())
            .env("DATASTREAM_AUTH_SECRET", SECRET)
            .env("DATASTREAM_ALLOWED_ORIGINS", "https://game.example")
            .env("DATASTREAM_MAX_CONNECTIONS", "1")
            .web_transport()
            .start()
            .await;
        let signer = Signer::hs256(SECRET);
        let [all, crash] =
            ["*", "game:crash"].map(|names| format!("Bearer {}", signer.opening(&[names])));
        let authorized = [("authorization", all.as_str())];
        let stream = WsClient::try_connect(&server.ws("/ws/crash"), &authorized).await;
        let stream = stream.expect("the only stream");
        Self { _database: database, server, _stream: stream, all, crash }
    }

    fn all(&self) -> (&str, &str) {
        ("authorization", &self.all)
    }

    fn crash(&self) -> (&str, &str) {
        ("authorization", &self.crash)
    }

    /// Asserts the status of this request, and whether its refusal is of the token.
    async fn assert_status(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        (status, of_token): (u16, bool),
    ) {
        let answer = request(&Method::GET, &self.server.http(path), headers).await;
        answer.assert_problem(status);
        let challenge = answer.header("www-authenticate");
        assert_eq!(!challenge.is_empty(), of_token, "{path} {headers:?}: {challenge:?}");
    }
}

#[tokio::test]
async fn a_web_socket_is_refused_in_the_order_of_the_contract() {
    let full = Full::start().await;
    let with = |more: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        let all = HANDSHAKE.iter().chain(more);
        all.map(|(name, value)| (*name, (*value).to_owned())).collect()
    };
    let all = full.all();
    for (path, headers, expected) in [
        ("/ws/nothing?after=%00", with(&[EVIL]), (400, false)),
        ("/ws/nothing", with(&[EVIL]), (403, false)),
        ("/ws/nothing", with(&[]), (401, true)),
        ("/ws/nothing", with(&[("authorization", full.crash().1)]), (403, true)),
        ("/ws/nothing", with(&[("authorization", all.1)]), (404, false)),
        ("/ws/crash", with(&[("authorization", all.1)]), (503, false)),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
        full.assert_status(path, &headers, expected).await;
    }
    full.assert_status("/ws/nothing", &[all], (404, false)).await;
    full.assert_status("/ws/crash", &[all], (426, false)).await;
}

#[tokio::test]
async fn an_event_stream_and_a_list_are_refused_in_the_order_of_the_contract() {
    let full = Full::start().await;
    for (stream, malformed) in [("/sse/", "?after=%00"), ("/rounds/", "?before=%00")] {
        let unknown = format!("{stream}nothing");
        full.assert_status(&format!("{unknown}{malformed}"), &[], (400, false)).await;
        full.assert_status(&unknown, &[EVIL], (401, true)).await;
        full.assert_status(&unknown, &[full.crash()], (403, true)).await;
        full.assert_status(&unknown, &[full.all()], (404, false)).await;
    }
    full.assert_status("/sse/crash", &[full.all(), ("last-event-id", "%00")], (503, false)).await;
    // An EventSource is refused alike: 200 with a delay would bring it back to a server that stays full.
    let event_source = [full.all(), ("accept", "text/event-stream")];
    full.assert_status("/sse/crash", &event_source, (503, false)).await;
}

#[tokio::test]
async fn a_web_transport_session_is_refused_in_the_order_of_the_contract() {
    let full = Full::start().await;
    let scope = "Bearer error=\"insufficient_scope\"";
    for (path, fields, status, challenge) in [
        ("/wt/nothing?after=%00", &[EVIL], 400, ""),
        ("/wt/nothing", &[EVIL], 403, ""),
        ("/wt/nothing", &[("origin", "https://game.example")], 401, "Bearer"),
        ("/wt/nothing", &[full.crash()], 403, scope),
        ("/wt/nothing", &[full.all()], 404, ""),
        ("/wt/crash", &[full.all()], 429, ""),
    ] {
        let answer = wt_request(&full.server, path, fields).await;
        let seen = (answer.status, answer.field("www-authenticate"));
        assert_eq!(seen, (status, challenge), "{path} {fields:?}");
    }
}
