//! WebSocket subprotocols: a browser fails a connection whose server picks one that it did not offer.

use testkit::{raw_http, serving};

async fn chosen(addr: std::net::SocketAddr, offers: &[&str]) -> Option<String> {
    let offers: String =
        offers.iter().map(|offer| format!("Sec-WebSocket-Protocol: {offer}\r\n")).collect();
    let request = format!(
        "GET /ws/crash HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offers}\r\n"
    );
    let head = raw_http(addr, request).await.read_until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let chosen: Vec<_> =
        head.lines().filter_map(|line| line.strip_prefix("sec-websocket-protocol: ")).collect();
    assert!(chosen.len() <= 1, "{head}");
    chosen.first().map(|name| (*name).to_owned())
}

#[tokio::test]
async fn a_client_that_offers_subprotocols_gets_datastream_or_none() {
    let (_database, server) = serving().await;
    for (offers, expected) in [
        (&["datastream"][..], Some("datastream")),
        (&["mqtt, datastream"], Some("datastream")),
        (&["mqtt", "v1,datastream ,v2"], Some("datastream")),
        (&["datastream, bearer.eyJ"], Some("datastream")),
        (&["mqtt"], None),
        (&["datastream2"], None),
        (&[""], None),
        (&[], None),
    ] {
        assert_eq!(chosen(server.addr, offers).await.as_deref(), expected, "{offers:?}");
    }
}
