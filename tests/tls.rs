//! TLS on the HTTP port: WebSocket, SSE and requests; certificates that change; clients that misbehave.

use std::{net::SocketAddr, sync::Arc};

use rustls::{SupportedProtocolVersion, version};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use testkit::{
    TestCertificate, TestDatabase, TestServer, binary::datastream, eventually, raw_http, tls,
    within,
};

const WEB_SOCKET: &str = "GET /ws/crash HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const EVENTS: &str = "GET /sse/crash HTTP/1.1\r\nHost: x\r\n\r\n";

/// A connection of a client that trusts this certificate.
async fn connect(
    certificate: &TestCertificate,
    address: SocketAddr,
    version: &'static SupportedProtocolVersion,
) -> Option<TlsStream<TcpStream>> {
    connect_trusting(std::slice::from_ref(&certificate.der), address, version).await
}

/// Connects if the server has one of these certificates.
async fn connect_trusting(
    trusted: &[CertificateDer<'static>],
    address: SocketAddr,
    version: &'static SupportedProtocolVersion,
) -> Option<TlsStream<TcpStream>> {
    let mut config = tls::client(trusted, &[version]);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tls::connect(Arc::new(config), address).await
}

/// Connects with TLS 1.3 and sends this.
async fn send(
    certificate: &TestCertificate,
    address: SocketAddr,
    bytes: &str,
) -> TlsStream<TcpStream> {
    let stream = connect(certificate, address, &version::TLS13).await;
    let mut stream = stream.expect("a handshake");
    stream.write_all(bytes.as_bytes()).await.expect("a write");
    stream
}

async fn read_until(stream: &mut TlsStream<TcpStream>, text: &str) -> String {
    within(format!("{text:?}"), async {
        let mut all = Vec::new();
        while !all.windows(text.len()).any(|part| part == text.as_bytes()) {
            let read = stream.read_buf(&mut all).await.expect("a read");
            assert!(read > 0, "the end after {}", String::from_utf8_lossy(&all));
        }
        String::from_utf8_lossy(&all).into_owned()
    })
    .await
}

fn builder(database: &TestDatabase, certificate: &TestCertificate) -> testkit::server::Builder {
    let variables = certificate.variables().into_iter();
    variables.fold(TestServer::on(database.url()), |server, (name, value)| server.env(name, value))
}

async fn serving() -> (TestDatabase, TestServer, TestCertificate) {
    let (database, certificate) = (TestDatabase::new().await, TestCertificate::new());
    let server = builder(&database, &certificate).start_unready().await;
    eventually("a server that is ready", || async {
        let ready = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let mut stream = send(&certificate, server.addr, ready).await;
        read_until(&mut stream, "\r\n").await.contains(" 200 ").then_some(())
    })
    .await;
    (database, server, certificate)
}

async fn metrics(server: &TestServer, certificate: &TestCertificate) -> String {
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut stream = send(certificate, server.addr, request).await;
    let mut text = String::new();
    within("the metrics", stream.read_to_string(&mut text)).await.expect("a clean end");
    text
}

#[tokio::test]
async fn web_sockets_events_and_requests_speak_tls_1_2_and_1_3() {
    let (database, server, certificate) = serving().await;
    for version in [&version::TLS12, &version::TLS13] {
        let connect =
            async || connect(&certificate, server.addr, version).await.expect("a handshake");
        let (mut socket, mut events) = (connect().await, connect().await);
        assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        socket.write_all(WEB_SOCKET.as_bytes()).await.expect("a write");
        events.write_all(EVENTS.as_bytes()).await.expect("a write");
        read_until(&mut socket, "101 Switching Protocols").await;
        read_until(&mut events, "text/event-stream").await;
        for _ in 0..3 {
            let round = database.finish("crash", "{}").await;
            read_until(&mut socket, &format!("\"round_id\":{round},")).await;
            read_until(&mut events, &format!("\"round_id\":{round},")).await;
        }
        let mut page = connect().await;
        for _ in 0..2 {
            let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
            page.write_all(request.as_bytes()).await.expect("a write");
            read_until(&mut page, "</html>").await;
        }
    }
}

#[tokio::test]
async fn a_slow_reader_gets_a_large_replay_in_full() {
    let (database, server, certificate) = serving().await;
    let first = database.finish("crash", "{}").await;
    let extras = format!(r#"{{"x": "{}"}}"#, "x".repeat(3000));
    let mut sent = Vec::new();
    for _ in 0..200 {
        sent.push(database.finish("crash", &extras).await);
    }
    let request = format!("GET /sse/crash?after={first} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut stream = send(&certificate, server.addr, &request).await;
    let (mut ids, mut rest) = (Vec::new(), Vec::new());
    within("the whole replay", async {
        // 500 bytes at a time: the server's socket is full again and again.
        let mut piece = [0; 500];
        while ids.len() < sent.len() {
            let read = stream.read(&mut piece).await.expect("a read");
            assert!(read > 0);
            rest.extend_from_slice(&piece[..read]);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let id = String::from_utf8_lossy(&line).strip_prefix("id: ").map(str::to_owned);
                ids.extend(id.map(|id| id.trim().parse::<i64>().expect("an id")));
            }
        }
    })
    .await;
    assert_eq!(ids, sent);
}

#[tokio::test]
async fn a_stream_goes_on_after_new_keys_of_the_client() {
    let (database, server, certificate) = serving().await;
    let mut stream = send(&certificate, server.addr, EVENTS).await;
    read_until(&mut stream, "text/event-stream").await;
    for _ in 0..3 {
        stream.get_mut().1.refresh_traffic_keys().expect("TLS 1.3");
        stream.flush().await.expect("a write");
        let round = database.finish("crash", "{}").await;
        read_until(&mut stream, &format!("id: {round}\n")).await;
    }
}

#[tokio::test]
async fn plain_http_on_the_port_is_answered_and_closed() {
    let (_database, server, _certificate) = serving().await;
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = raw_http(server.addr, request).await.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
}

#[tokio::test]
async fn a_handshake_that_stalls_is_closed_and_others_are_not_delayed() {
    let (database, server, certificate) = serving().await;
    let silent = raw_http(server.addr, "").await;
    let half = raw_http(server.addr, [22, 3, 1, 2, 0, 1]).await;
    let mut stream = send(&certificate, server.addr, EVENTS).await;
    read_until(&mut stream, "text/event-stream").await;
    let round = database.finish("crash", "{}").await;
    read_until(&mut stream, &format!("id: {round}\n")).await;
    tokio::join!(silent.read_to_end(), half.read_to_end());
}

#[tokio::test]
async fn half_handshakes_are_limited_and_the_oldest_is_closed_first() {
    rlimit::increase_nofile_limit(u64::MAX).expect("more files");
    let (_database, server, certificate) = serving().await;
    let mut halves = Vec::new();
    for _ in 0..1100 {
        halves.push(raw_http(server.addr, [22, 3, 1, 2, 0, 1]).await);
    }
    within("the first to be closed", halves.remove(0).read_to_end()).await;
    let mut health =
        send(&certificate, server.addr, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_until(&mut health, "\"ok\"").await;
}

#[tokio::test]
async fn a_new_certificate_is_used_and_open_streams_stay() {
    let (database, server, mut certificate) = serving().await;
    let mut stream = send(&certificate, server.addr, EVENTS).await;
    read_until(&mut stream, "text/event-stream").await;
    let expiry = |text: &str| {
        let name =
            "\ndatastream_certificate_expiry_timestamp_seconds{listener=\"http\",source=\"file\"} ";
        let value = text.split_once(name).expect("a metric").1.lines().next();
        value.expect("a value").parse::<f64>().expect("a number")
    };
    assert!(expiry(&metrics(&server, &certificate).await) > 1.7e9);
    certificate.renew();
    eventually("the new certificate", || async {
        connect(&certificate, server.addr, &version::TLS13).await.map(|_| ())
    })
    .await;
    let round = database.finish("crash", "{}").await;
    read_until(&mut stream, &format!("id: {round}\n")).await;
    std::fs::write(certificate.file("cert.pem"), "no certificate").expect("written");
    eventually("the error to be logged", || async {
        let log = server.log();
        log.iter().any(|line| line.contains("cannot use the changed certificate")).then_some(())
    })
    .await;
    send(&certificate, server.addr, EVENTS).await;
}

#[tokio::test]
async fn a_stop_ends_the_stream_with_its_close_frame_and_close_notify() {
    let (_database, server, certificate) = serving().await;
    let mut stream = send(&certificate, server.addr, WEB_SOCKET).await;
    read_until(&mut stream, "\r\n\r\n").await;
    server.signal("TERM");
    let mut rest = Vec::new();
    // rustls reports an end without close_notify as an error.
    within("the end", stream.read_to_end(&mut rest)).await.expect("a clean end");
    assert!(rest.windows(2).any(|bytes| bytes == 1001_u16.to_be_bytes()), "{rest:?}");
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_stream_takes_the_memory_of_its_keys_too() {
    let (_database, server, certificate) = serving().await;
    let used = async |bytes: u32| {
        // The request for the metrics has 32 KB, and its keys.
        let bytes = bytes + 32 * 1024 + 3584;
        let line = format!("\ndatastream_memory_used_bytes{{kind=\"connections\"}} {bytes}\n");
        eventually(line.clone(), || async {
            metrics(&server, &certificate).await.contains(&line).then_some(())
        })
        .await;
    };
    used(0).await;
    let mut streams = Vec::new();
    for request in [EVENTS, WEB_SOCKET] {
        let mut stream = send(&certificate, server.addr, request).await;
        read_until(&mut stream, "\r\n\r\n").await;
        streams.push(stream);
    }
    used(2 * 4608).await;
    drop(streams);
    used(0).await;
}

#[tokio::test]
async fn certificates_that_change_under_load_interrupt_no_stream_and_no_handshake() {
    let (database, server, mut certificate) = serving().await;
    let mut stream = send(&certificate, server.addr, EVENTS).await;
    read_until(&mut stream, "text/event-stream").await;
    for _ in 0..3 {
        let old = certificate.der.clone();
        certificate.renew();
        let both = [old, certificate.der.clone()];
        within("every handshake to get the new certificate", async {
            loop {
                let round = database.finish("crash", "{}").await;
                read_until(&mut stream, &format!("id: {round}\n")).await;
                let connecting =
                    (0..20).map(|_| connect_trusting(&both, server.addr, &version::TLS13));
                let served = futures_util::future::join_all(connecting).await;
                let mut got = served.iter().map(|served| {
                    let served = served.as_ref().expect("a handshake with one of the two");
                    served.get_ref().1.peer_certificates().expect("a certificate")[0].clone()
                });
                if got.all(|got| got == both[1]) {
                    break;
                }
            }
        })
        .await;
    }
}

#[tokio::test]
async fn one_of_certificate_and_key_alone_is_bad_usage() {
    for (name, missing) in [
        ("DATASTREAM_TLS_CERT", "DATASTREAM_TLS_KEY"),
        ("DATASTREAM_TLS_KEY", "DATASTREAM_TLS_CERT"),
    ] {
        let run = datastream(&["serve"])
            .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
            .env(name, "/some.pem");
        let run = run.run().await;
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains(missing), "{}", run.stderr);
    }
}

#[tokio::test]
async fn tail_follows_a_server_with_tls() {
    let (database, server, certificate) = serving().await;
    let url = format!("https://localhost:{}", server.addr.port());
    let mut tail = datastream(&["tail", "crash", "--json"])
        .env("DATASTREAM_URL", url)
        .env("SSL_CERT_FILE", certificate.file("cert.pem"))
        .command;
    let mut tail = tail.stdout(std::process::Stdio::piped()).spawn().expect("tail");
    let mut output = tail.stdout.take().expect("a pipe");
    let mut all = Vec::new();
    eventually("a round", || async { Some(database.finish("crash", "{}").await) }).await;
    within("a line of tail", async {
        while !all.contains(&b'\n') {
            assert!(output.read_buf(&mut all).await.expect("a read") > 0);
        }
    })
    .await;
    assert!(String::from_utf8_lossy(&all).contains("\"round_id\":"));
}

#[tokio::test]
async fn web_transport_uses_the_same_certificate() {
    let (database, certificate) = (TestDatabase::new().await, TestCertificate::new());
    let server = builder(&database, &certificate).web_transport().start_unready().await;
    let request = "GET /wt/certificate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut stream = send(&certificate, server.addr, request).await;
    let answer = read_until(&mut stream, "}").await;
    assert!(answer.contains("\"next\":null"), "{answer}");
}

#[tokio::test]
async fn health_asks_a_server_with_tls_whatever_its_certificate() {
    let (_database, server, certificate) = serving().await;
    let health = datastream(&["health"])
        .env("DATASTREAM_HTTP_ADDR", server.addr.to_string())
        .env("DATASTREAM_TLS_CERT", certificate.file("cert.pem"));
    let output = health.run().await;
    assert_eq!((output.code, &*output.stdout), (Some(0), "ready\n"), "{}", output.stderr);
    let plain = datastream(&["health"]).env("DATASTREAM_HTTP_ADDR", server.addr.to_string());
    assert_eq!(plain.run().await.code, Some(1));
}
