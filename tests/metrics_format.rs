//! `/metrics` for scrapers: the two formats, and series that are there from the start.

use std::collections::BTreeSet;

use reqwest::Method;

use testkit::{
    SseClient, TestDatabase, TestServer, WsClient, WtClient, cluster::free_port, get, http::request,
};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
    application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// A server without a database: its metrics are those of a fresh start.
async fn fresh() -> TestServer {
    let nobody = format!("postgresql://postgres@127.0.0.1:{}/nothing", free_port());
    TestServer::on(nobody).start_unready().await
}

/// The names of all series, with their labels.
async fn series(server: &TestServer) -> BTreeSet<String> {
    let text = get(&server.http("/metrics")).await.body;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect()
}

#[tokio::test]
async fn a_scraper_gets_the_format_that_it_asks_for_and_text_by_default() {
    let server = fresh().await;
    for (accept, kind) in [
        (PROMETHEUS, OPEN_METRICS),
        ("application/openmetrics-text", OPEN_METRICS),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.9", TEXT),
        ("text/plain", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml", TEXT),
    ] {
        let url = server.http("/metrics");
        let response = request(&Method::GET, &url, &[("accept", accept)]).await;
        assert_eq!((response.status, response.header("content-type")), (200, kind), "{accept}");
        let is_open = kind == OPEN_METRICS;
        assert_eq!(response.body.ends_with("# EOF\n"), is_open, "{accept}");
        let counter =
            if is_open { "datastream_polls counter" } else { "datastream_polls_total counter" };
        assert!(response.body.contains(&format!("# TYPE {counter}\n")), "{accept}");
    }
}

#[tokio::test]
async fn in_the_text_format_each_sample_follows_the_description_of_its_family() {
    let server = fresh().await;
    let text = get(&server.http("/metrics")).await.body;
    let mut family = String::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            family = described.split(' ').next().expect("a name").to_owned();
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').expect("a type");
            assert_eq!(name, family);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        } else {
            let name = line.split(['{', ' ']).next().expect("a name");
            let of_histogram = ["_bucket", "_sum", "_count"];
            let bare = of_histogram.iter().find_map(|end| name.strip_suffix(end));
            assert!(name == family || bare == Some(&family), "{line} after {family}");
            let value = line.rsplit(' ').next().expect("a value");
            assert!(value == "+Inf" || value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        }
    }
}

#[tokio::test]
async fn every_series_is_there_before_its_first_event() {
    let database = TestDatabase::new().await;
    let server =
        TestServer::on(database.url()).web_transport().env("DATASTREAM_HISTORY", "1").start().await;
    let at_start = series(&fresh().await).await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.finish_at("crash", "'infinity'").await;
    let ids = database.finish_many("crash", 3).await;
    client.rounds(3).await;
    client.close().await;
    SseClient::connect(&server.http(&format!("/sse/crash?after={}", ids[0])))
        .await
        .next_event()
        .await;
    let mut lost = WsClient::connect(server.ws("/ws/crash?after=987654321")).await;
    assert_eq!(lost.close_code().await, Some(4410));
    drop(WtClient::connect(&server, "/wt/crash").await);
    server.counts("datastream_rounds_skipped_total{reason=\"out_of_range\"} 1").await;
    server.counts("datastream_resumes_total{source=\"gap\"} 1").await;
    let later = series(&server).await;
    assert_eq!(later.difference(&at_start).collect::<Vec<_>>(), Vec::<&String>::new());
    for expected in [
        "datastream_rounds_captured_total{source=\"catch_up\"}",
        "datastream_rounds_skipped_total{reason=\"unreadable\"}",
        "datastream_sessions_closed_total{transport=\"webtransport\",reason=\"no_pong\"}",
        "datastream_rounds_dropped_total{transport=\"webtransport\"}",
        "datastream_subscribers{transport=\"sse\"}",
    ] {
        assert!(at_start.contains(expected), "{expected} in {at_start:?}");
    }
}

#[tokio::test]
async fn the_version_and_the_limits_are_gauges() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url())
        .env("DATASTREAM_MAX_CONNECTIONS", "500")
        .env("DATASTREAM_MAX_CONNECTS_PER_SECOND", "70")
        .env("DATASTREAM_HISTORY", "9")
        .env("DATASTREAM_RETENTION", "2h")
        .start()
        .await;
    let text = get(&server.http("/metrics")).await.body;
    let version = concat!("\ndatastream_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"");
    assert!(text.contains(version), "{text}");
    for line in [
        "datastream_max_connections 500",
        "datastream_max_connections_per_address +Inf",
        "datastream_max_connects_per_second 70.0",
        "datastream_history_rounds 9",
        "datastream_resume_limit_rounds 10000",
        "datastream_retention_seconds 7200.0",
        "datastream_heartbeat_seconds 15.0",
    ] {
        server.counts(line).await;
    }
}
