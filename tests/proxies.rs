//! The address of a client behind trusted proxies.

use testkit::{TestDatabase, TestServer, binary::datastream, get, http::RawHttp, raw_http};

async fn behind(proxies: &str) -> (TestDatabase, TestServer) {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url())
        .env("DATASTREAM_TRUSTED_PROXIES", proxies)
        .env("DATASTREAM_MAX_CONNECTIONS_PER_ADDRESS", "1")
        .start()
        .await;
    (database, server)
}

/// An event stream with these headers, and its status line.
async fn stream(server: &TestServer, headers: &str) -> (RawHttp, String) {
    let request = format!("GET /sse/crash HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let mut client = raw_http(server.addr, request).await;
    let status = client.read_until("\r\n").await;
    (client, status)
}

#[tokio::test]
async fn the_last_forwarded_address_that_is_no_proxy_is_the_client() {
    let (_database, server) = behind("127.0.0.0/8, 10.0.0.0/8").await;
    let (_first, status) = stream(&server, "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.1.2.3\r\n").await;
    assert!(status.contains(" 200 "), "{status}");
    // What comes before is what the client itself sent.
    let (_same, status) = stream(&server, "X-Forwarded-For: 9.9.9.9, 2.2.2.2\r\n").await;
    assert!(status.contains(" 503 "), "{status}");
    let two_lines = "X-Forwarded-For: 2.2.2.2\r\nX-Forwarded-For: 3.3.3.3\r\n";
    let (_other, status) = stream(&server, two_lines).await;
    assert!(status.contains(" 200 "), "{status}");
    let (_same, status) = stream(&server, "X-Forwarded-For: 3.3.3.3\r\n").await;
    assert!(status.contains(" 503 "), "{status}");
}

#[tokio::test]
async fn without_the_header_a_client_behind_a_proxy_has_no_limit() {
    let (_database, server) = behind("127.0.0.1/32").await;
    let mut streams = Vec::new();
    for headers in ["", "", "X-Forwarded-For: unknown\r\n"] {
        let (client, status) = stream(&server, headers).await;
        assert!(status.contains(" 200 "), "{status}");
        streams.push(client);
    }
}

#[tokio::test]
async fn the_header_of_a_client_that_is_no_proxy_does_not_count() {
    let (_database, server) = behind("10.0.0.0/8").await;
    let (_first, status) = stream(&server, "X-Forwarded-For: 1.1.1.1\r\n").await;
    assert!(status.contains(" 200 "), "{status}");
    let (_second, status) = stream(&server, "X-Forwarded-For: 2.2.2.2\r\n").await;
    assert!(status.contains(" 503 "), "{status}");
    assert_eq!(get(&server.http("/healthz")).await.status, 200);
}

#[tokio::test]
async fn a_network_that_is_none_is_bad_usage() {
    for bad in ["everywhere", "10.0.0.0/33", "10.0.0.0/8;192.168.0.0/16"] {
        let run = datastream(&["serve"]).env("DATASTREAM_TRUSTED_PROXIES", bad).run().await;
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert_eq!(run.stderr.trim().lines().count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains("DATASTREAM_TRUSTED_PROXIES"), "{}", run.stderr);
    }
}
