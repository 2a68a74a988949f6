//! Pages of other origins: CORS with credentials, `null`, and the handshakes that CORS does not cover.

use reqwest::Method;

use testkit::{
    TestDatabase, TestServer, WsClient, WtClient,
    http::{Response, request},
};

const LISTED: &str = "https://game.example,null";
const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const ALLOW_CREDENTIALS: &str = "access-control-allow-credentials";

async fn serving(origins: &str) -> (TestDatabase, TestServer) {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_ALLOWED_ORIGINS", origins);
    let server = server.web_transport();
    let server = server.start().await;
    (database, server)
}

async fn from(server: &TestServer, method: Method, path: &str, origin: &str) -> Response {
    let preflight =
        [("access-control-request-method", "GET"), ("access-control-request-headers", "x-own")];
    let mut headers = vec![("origin", origin)];
    if method == Method::OPTIONS {
        headers.extend(preflight);
    }
    request(&method, &server.http(path), &headers).await
}

#[tokio::test]
async fn only_an_origin_that_the_list_names_may_send_credentials() {
    let (_database, server) = serving(LISTED).await;
    for (origin, named, credentials) in [
        ("https://game.example", "https://game.example", "true"),
        ("null", "null", ""),
        ("https://other.example", "", ""),
        ("https://game.example.evil.example", "", ""),
        ("http://game.example", "", ""),
    ] {
        for path in ["/games", "/rounds/crash", "/rounds/nothing", "/healthz"] {
            let response = from(&server, Method::GET, path, origin).await;
            assert_eq!(response.header(ALLOW_ORIGIN), named, "{path} from {origin}");
            assert_eq!(response.header(ALLOW_CREDENTIALS), credentials, "{path} from {origin}");
            let vary =
                response.headers.get_all("vary").iter().filter_map(|vary| vary.to_str().ok());
            let vary = vary.collect::<Vec<_>>().join(",").to_ascii_lowercase();
            assert!(vary.split(',').any(|name| name.trim() == "origin"), "{vary}");
        }
    }
}

#[tokio::test]
async fn a_preflight_names_the_origin_the_methods_and_the_headers() {
    let (_database, server) = serving(LISTED).await;
    let response = from(&server, Method::OPTIONS, "/games", "https://game.example").await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header(ALLOW_ORIGIN), "https://game.example");
    assert_eq!(response.header(ALLOW_CREDENTIALS), "true");
    // With credentials a browser takes `*` as a name.
    assert_eq!(response.header("access-control-allow-headers"), "x-own");
    assert_eq!(response.header("access-control-allow-methods"), "GET,HEAD");
    let response = from(&server, Method::OPTIONS, "/games", "null").await;
    assert_eq!((response.header(ALLOW_ORIGIN), response.header(ALLOW_CREDENTIALS)), ("null", ""));
    let response = from(&server, Method::OPTIONS, "/games", "https://other.example").await;
    assert_eq!((response.header(ALLOW_ORIGIN), response.header(ALLOW_CREDENTIALS)), ("", ""));
}

#[tokio::test]
async fn a_star_allows_every_page_and_no_credentials() {
    let (_database, server) = serving("*").await;
    for origin in ["https://game.example", "null"] {
        for method in [Method::GET, Method::OPTIONS] {
            let response = from(&server, method, "/games", origin).await;
            assert_eq!(response.header(ALLOW_ORIGIN), "*");
            assert_eq!(response.header(ALLOW_CREDENTIALS), "");
        }
    }
}

#[tokio::test]
async fn an_event_stream_allows_credentials_too() {
    let (_database, server) = serving(LISTED).await;
    let headers = [("origin", "https://game.example"), ("cookie", "a=b")];
    let stream = testkit::SseClient::connect_with(&server.http("/sse/crash"), &headers).await;
    let header = |name: &str| stream.headers.get(name).map(|value| value.to_str().expect("text"));
    assert_eq!(header(ALLOW_CREDENTIALS), Some("true"));
    assert_eq!(header(ALLOW_ORIGIN), Some("https://game.example"));
}

#[tokio::test]
async fn the_same_list_guards_the_handshakes() {
    let (_database, server) = serving(LISTED).await;
    for (origin, refused) in [
        ("https://game.example", None),
        ("null", None),
        ("https://other.example", Some(403)),
        ("file://", Some(403)),
    ] {
        let connected = WsClient::try_connect(&server.ws("/ws/crash"), &[("origin", origin)]).await;
        assert_eq!(connected.err(), refused, "{origin}");
    }
    // The client of the tests is no browser and sends no origin.
    drop(WtClient::connect(&server, "/wt/crash").await);
}
