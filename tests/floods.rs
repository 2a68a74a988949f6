//! Clients that send too much, and a log that nobody reads. Rounds are not delayed.

use std::process::{Command, Stdio};

use tokio_tungstenite::tungstenite::Message;

use testkit::{
    TestDatabase, WsClient,
    binary::datastream,
    cluster::free_port,
    eventually,
    http::{RawHttp, try_get},
    raw_http, serving,
};

const HANDSHAKE: &str = "GET /ws/crash HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A masked frame with this first byte and payload of zeros.
fn frame(first: u8, size: u8) -> Vec<u8> {
    [&[first, 0x80 | size, 0, 0, 0, 0][..], &vec![0; usize::from(size)]].concat()
}

/// Floods until the server closes; returns whether the answer has this close code.
async fn flood(mut client: RawHttp, start: &[u8], frames: &[u8], code: u16) -> bool {
    client.send(start).await;
    while client.send(frames).await && !client.has_bytes(&code.to_be_bytes()) {}
    client.has_bytes(&code.to_be_bytes())
}

#[tokio::test]
async fn a_flood_of_pings_messages_or_empty_fragments_is_closed_with_1008() {
    let (database, server) = serving().await;
    let mut quiet = WsClient::connect(server.ws("/ws/double")).await;
    let pings = frame(0x89, 0).repeat(1000);
    let messages = frame(0x82, 100).repeat(100);
    let fragments = frame(0x00, 0).repeat(1000);
    for (start, frames) in [(&[][..], pings), (&[][..], messages), (&frame(0x02, 0)[..], fragments)]
    {
        let client = raw_http(server.addr, HANDSHAKE).await;
        assert!(flood(client, start, &frames, 1008).await);
        let round = database.finish("double", "{}").await;
        quiet.rounds_until(round).await;
    }
    let counted = "datastream_sessions_closed_total{transport=\"websocket\",reason=\"flooding\"} 3";
    server.counts(counted).await;
}

#[tokio::test]
async fn a_client_that_sends_little_stays_connected() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    for _ in 0..8 {
        assert!(client.send(Message::binary(vec![0; 4096])).await);
    }
    let round = database.finish("crash", "{}").await;
    client.rounds_until(round).await;
}

/// A server that ends with its test.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

/// A server whose stderr is this, on a port of its own: nobody reads from the log where it listens.
fn with_log(database: &TestDatabase, stderr: Stdio) -> (Server, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let program = datastream(&[]).command.as_std().get_program().to_owned();
    let mut command = Command::new(program);
    command.arg("serve").env_clear().env("DATABASE_URL", database.url()).current_dir("/");
    command.env("DATASTREAM_HTTP_ADDR", &address).env("RUST_LOG", "trace");
    (Server(command.stderr(stderr).spawn().expect("a server")), address)
}

async fn metric(address: &str, name: &str) -> Option<f64> {
    let metrics = try_get(&format!("http://{address}/metrics")).await?.body;
    let name = format!("\ndatastream_{name} ");
    metrics.split_once(&name)?.1.split_whitespace().next()?.parse().ok()
}

async fn dropped_lines(address: &str) -> Option<f64> {
    metric(address, "log_lines_dropped_total").await
}

#[tokio::test]
async fn a_log_that_nobody_reads_or_that_is_full_stops_no_round_and_its_lines_are_counted() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    for (stderr, waits) in [(Stdio::piped(), true), (full.into(), false)] {
        let database = TestDatabase::new().await;
        let (mut server, address) = with_log(&database, stderr);
        eventually("a server", || async {
            let ready = try_get(&format!("http://{address}/readyz")).await?;
            (ready.status == 200).then_some(())
        })
        .await;
        let mut client = WsClient::connect(format!("ws://{address}/ws/crash")).await;
        let bad = "select pg_notify('datastream_rounds', repeat('x', 700) || g) \
                   from generate_series(1, 1000) g";
        // Rounds go on before and while lines are dropped.
        for _ in 0..2 {
            let before = dropped_lines(&address).await.expect("a number");
            eventually("more lines to be dropped", || async {
                database.run(bad).await;
                (dropped_lines(&address).await? > before).then_some(())
            })
            .await;
            client.rounds_until(database.finish("crash", "{}").await).await;
        }
        let waiting = metric(&address, "log_queue_bytes").await.expect("a number");
        assert!((0.0..=1_048_576.0).contains(&waiting), "{waiting} bytes");
        assert!(waiting > 0.0 || !waits, "lines wait for a reader");
        let pid = server.0.id().to_string();
        Command::new("kill").arg(&pid).status().expect("kill");
        let look = || std::future::ready(server.0.try_wait().expect("a status"));
        let ended = eventually("an end", look).await;
        assert_eq!(ended.code(), Some(0));
    }
}

#[tokio::test]
async fn the_last_lines_are_written_before_the_end() {
    let (_database, server) = serving().await;
    server.signal("TERM");
    let (code, log) = server.last_words().await;
    assert_eq!(code, Some(0));
    assert!(log.iter().any(|line| line.contains("SIGTERM: stopping")), "{log:?}");
}
