//! The API documents that the server serves, and each status in them, seen once.

use std::collections::BTreeSet;

use reqwest::{Client, RequestBuilder, header::ETAG};
use serde_json::Value;

use testkit::{
    Signer, TestDatabase, TestServer, WsClient, cluster::free_port, get, token::SECRET, within,
};

/// Over the limit of 200 bytes.
const LONG: usize = 201;

/// Over any limit for the head of a request.
const HUGE: usize = 1024 * 1024;

/// Five servers, because one alone cannot answer with every status.
struct Servers {
    /// Ready, with WebTransport.
    ready: TestServer,
    /// Ready, without WebTransport, for pages of one origin only.
    strict: TestServer,
    /// With tokens.
    guarded: TestServer,
    /// With an internal listener.
    internal: TestServer,
    /// Without a database.
    unready: TestServer,
    database: TestDatabase,
}

impl Servers {
    async fn start() -> Self {
        let database = TestDatabase::new().await;
        database.finish("crash", "{}").await;
        let ready = TestServer::on(database.url()).web_transport().start().await;
        let strict = TestServer::on(database.url())
            .env("DATASTREAM_ALLOWED_ORIGINS", "https://one.example")
            .start()
            .await;
        let guarded =
            TestServer::on(database.url()).env("DATASTREAM_AUTH_SECRET", SECRET).start().await;
        let internal = TestServer::on(database.url())
            .env("DATASTREAM_INTERNAL_ADDR", "127.0.0.1:0")
            .start()
            .await;
        let nowhere = format!("postgres://postgres@127.0.0.1:{}/none", free_port());
        let unready = TestServer::on(nowhere).start_unready().await;
        Self { ready, strict, guarded, internal, unready, database }
    }

    /// The status that a request gets which the document says is answered with `status`.
    async fn status_of(&self, template: &str, status: u16) -> Option<u16> {
        let path = template.replace("{game}", "crash").replace("{type}", "multiplier");
        let path = path.replace("{file}", "main.js");
        let client = Client::new();
        let request = match status {
            101 => return opened(&self.ready, &path, &[]).await,
            401 if template.starts_with("/ws") => return opened(&self.guarded, &path, &[]).await,
            401 => client.get(self.guarded.http(&path)),
            403 if template.starts_with("/ws") => {
                return opened(&self.strict, &path, &[("origin", "https://two.example")]).await;
            }
            403 => client.get(self.guarded.http(&path)).bearer_auth(token_of_another_game()),
            404 if template == "/metrics" => client.get(self.internal.http(&path)),
            503 if template.starts_with("/ws") => return opened(&self.unready, &path, &[]).await,
            200 | 426 => client.get(self.ready.http(&path)),
            304 => conditional(&client, &self.ready.http(&path)).await,
            400 => client.get(self.ready.http(&malformed(template, &path))),
            404 if path == template && template.starts_with("/wt/") => {
                client.get(self.strict.http(&path))
            }
            404 => client.get(self.ready.http(&unknown(template))),
            431 => client.get(self.ready.http(&path)).header("x-long", "x".repeat(HUGE)),
            413 => client.get(self.ready.http(&path)).body("x"),
            503 => client.get(self.unready.http(&path)),
            _ => return None,
        };
        // The head is enough: the body of an event stream does not end.
        Some(request.send().await.expect("an answer").status().as_u16())
    }
}

/// A token that is valid, but not for what the requests ask.
fn token_of_another_game() -> String {
    Signer::hs256(SECRET).opening(&["game:double"])
}

/// The status of a WebSocket handshake.
async fn opened(server: &TestServer, path: &str, headers: &[(&'static str, &str)]) -> Option<u16> {
    WsClient::try_connect(&server.ws(path), headers).await.err().or(Some(101))
}

async fn conditional(client: &Client, url: &str) -> RequestBuilder {
    let first = client.get(url).send().await.expect("an answer");
    client.get(url).header("if-none-match", first.headers()[ETAG].clone())
}

fn malformed(template: &str, path: &str) -> String {
    match template {
        "/rounds/{game}/latest" => "/rounds/%FF/latest".to_owned(),
        "/rounds" | "/rounds/{game}" => format!("{path}?before={}", "x".repeat(LONG)),
        _ => format!("{path}?after={}", "x".repeat(LONG)),
    }
}

fn unknown(template: &str) -> String {
    let path = ["{game}", "{type}", "{file}"]
        .into_iter()
        .fold(template.to_owned(), |path, name| path.replace(name, "nothing"));
    if path == template { format!("{path}?game=nothing") } else { path }
}

async fn document(server: &TestServer, path: &str) -> Value {
    let response = get(&server.http(path)).await;
    assert_eq!((response.status, response.header("content-type")), (200, "application/json"));
    response.json()
}

#[tokio::test]
async fn every_status_in_the_openapi_document_is_answered() {
    let servers = Servers::start().await;
    let open = document(&servers.ready, "/openapi.json").await;
    for (template, item) in open["paths"].as_object().expect("paths") {
        for status in item["get"]["responses"].as_object().expect("responses").keys() {
            let status: u16 = status.parse().expect("a number");
            let what = format!("{status} of {template}");
            let seen = within(what.clone(), servers.status_of(template, status)).await;
            assert_eq!(seen, Some(status), "{what}");
        }
    }
    drop(servers.database);
}

#[tokio::test]
async fn every_query_parameter_in_the_openapi_document_is_read() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).start().await;
    let guarded = TestServer::on(database.url())
        .env("DATASTREAM_AUTH_SECRET", SECRET)
        .env("DATASTREAM_AUTH_QUERY", "true")
        .start()
        .await;
    let open = document(&server, "/openapi.json").await;
    let name_of = |parameter: &Value| {
        let pointer = parameter["$ref"].as_str().expect("a reference").trim_start_matches('#');
        let parameter = open.pointer(pointer).expect("a parameter");
        (parameter["in"] == "query").then(|| parameter["name"].as_str().expect("a name").to_owned())
    };
    let mut seen = BTreeSet::new();
    for (template, item) in open["paths"].as_object().expect("paths") {
        let parameters = item["get"]["parameters"].as_array().into_iter().flatten();
        for name in parameters.filter_map(name_of) {
            let server = if name == "token" { &guarded } else { &server };
            let (bad, status) = match &*name {
                "token" => ("x".to_owned(), 401),
                "game" | "type" => ("nothing".to_owned(), 404),
                "limit" => ("0".to_owned(), 400),
                _ => ("x".repeat(LONG), 400),
            };
            let path = template.replace("{game}", "crash").replace("{type}", "multiplier");
            let url = server.http(&format!("{path}?{name}={bad}"));
            let answer = Client::new().get(url).send().await.expect("an answer");
            assert_eq!(answer.status().as_u16(), status, "{name} of {template}");
            if name == "token" {
                let answer = answer.text().await.expect("a problem");
                assert!(answer.contains("the token cannot be read"), "{answer}");
            }
            seen.insert(name);
        }
    }
    assert!(seen.len() >= 5, "{seen:?}");
}

#[tokio::test]
async fn both_documents_name_the_version_and_every_reference_leads_somewhere() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).start().await;
    for (path, key, edition) in
        [("/openapi.json", "openapi", "3.1."), ("/asyncapi.json", "asyncapi", "3.")]
    {
        let document = document(&server, path).await;
        assert!(document[key].as_str().is_some_and(|it| it.starts_with(edition)), "{path}");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let text = document.to_string();
        for rest in text.split("\"$ref\":\"#").skip(1) {
            let pointer = rest.split('"').next().expect("an end");
            assert!(document.pointer(pointer).is_some(), "{pointer} in {path}");
        }
    }
}
