//! TLS against rustls' own client, over sockets that take what they like.

use std::io::Read;

use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use wtransport::Identity;

use super::*;
use crate::transport::{certificate::Pair, test_socket::TestSocket};

fn socket(step: usize) -> TestSocket {
    TestSocket { step, room: usize::MAX, ..TestSocket::default() }
}

fn pair(version: &'static SupportedProtocolVersion) -> (Tls, ClientConnection) {
    let identity = Identity::self_signed(["localhost"]).expect("a certificate");
    let chain = identity.certificate_chain().as_slice()[0].der().to_vec();
    let key = PrivatePkcs8KeyDer::from(identity.private_key().secret_der().to_vec());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(chain.clone())).expect("a root");
    let own = Pair::new(vec![CertificateDer::from(chain)], key.into()).expect("a pair");
    let tls = Tls::new(Arc::new(own.http_tls().expect("a configuration"))).expect("a connection");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    (tls, ClientConnection::new(Arc::new(config), name).expect("a client"))
}

/// Passes the client's bytes in pieces of this size. Returns their plaintext.
fn to_server(client: &mut ClientConnection, tls: &mut Tls, step: usize) -> Vec<u8> {
    let (mut bytes, mut plain) = (Vec::new(), Vec::new());
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("bytes");
    }
    bytes.chunks(step).for_each(|piece| tls.receive(piece, &mut plain).expect("valid"));
    plain
}

/// Passes these bytes to the client. Returns the plaintext.
fn to_client(mut bytes: &[u8], client: &mut ClientConnection) -> Vec<u8> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("read");
        client.process_new_packets().expect("valid");
        let mut piece = [0; 4096];
        while let Ok(read) = client.reader().read(&mut piece) {
            if read == 0 {
                break;
            }
            plain.extend_from_slice(&piece[..read]);
        }
    }
    plain
}

fn connected(version: &'static SupportedProtocolVersion, step: usize) -> (Tls, ClientConnection) {
    let (mut tls, mut client) = pair(version);
    while tls.is_handshaking() || client.is_handshaking() {
        to_server(&mut client, &mut tls, step);
        let mut sent = socket(step);
        assert!(tls.flush(&mut sent).expect("room"));
        to_client(&sent.taken, &mut client);
    }
    (tls, client)
}

#[test]
fn a_handshake_in_pieces_of_any_size_is_completed() {
    for version in [&version::TLS13, &version::TLS12] {
        for step in [1, 7, 100_000] {
            let (mut tls, mut client) = connected(version, step);
            client.writer().write_all(b"hello").expect("room");
            assert_eq!(to_server(&mut client, &mut tls, step), b"hello");
            assert!(tls.received.capacity() == 0, "an idle connection holds nothing");
        }
    }
}

#[test]
fn a_slow_reader_gets_every_byte_and_the_server_keeps_one_record_at_most() {
    let (mut tls, mut client) = connected(&version::TLS13, 100_000);
    let sent: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    let (mut rest, mut slow, mut received) = (&sent[..], socket(1000), Vec::new());
    while !rest.is_empty() || tls.has_unsent() {
        slow.room = 3000;
        if rest.is_empty() {
            tls.flush(&mut slow).expect("no error");
        }
        while !rest.is_empty() {
            match tls.write(rest, &mut slow) {
                Ok(taken) => rest = &rest[taken..],
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
            assert!(tls.unsent.len() <= SEALED_MAX, "{}", tls.unsent.len());
        }
        received.extend(to_client(&std::mem::take(&mut slow.taken), &mut client));
    }
    assert_eq!(received, sent);
    assert!(tls.unsent.capacity() == 0);
}

#[test]
fn pieces_are_joined_into_records() {
    let (mut tls, mut client) = connected(&version::TLS13, 100_000);
    let piece = [7; 300];
    let pieces = [io::IoSlice::new(&piece); 64];
    let mut sent = socket(100_000);
    let taken = tls.write_vectored(&pieces, &mut sent).expect("room");
    assert_eq!(taken, RECORD_MAX);
    assert_eq!(to_client(&sent.taken, &mut client), vec![7; RECORD_MAX]);
}

#[test]
fn a_key_update_of_the_peer_is_answered_and_followed() {
    let (mut tls, mut client) = connected(&version::TLS13, 100_000);
    for round in 0..3_u8 {
        client.refresh_traffic_keys().expect("TLS 1.3");
        client.writer().write_all(&[round]).expect("room");
        assert_eq!(to_server(&mut client, &mut tls, 10), [round]);
        let mut sent = socket(5);
        tls.write(&[round, 1], &mut sent).expect("room");
        assert!(tls.flush(&mut sent).expect("room"));
        assert_eq!(to_client(&sent.taken, &mut client), [round, 1]);
    }
}

#[test]
fn a_peer_that_asks_for_new_keys_without_end_and_reads_nothing_is_refused() {
    let (mut tls, mut client) = connected(&version::TLS13, 100_000);
    let mut plain = Vec::new();
    for _ in 0..1_000_000 {
        let mut bytes = Vec::new();
        client.refresh_traffic_keys().expect("TLS 1.3");
        client.write_tls(&mut bytes).expect("bytes");
        if tls.receive(&bytes, &mut plain).is_err() {
            return assert!(tls.unsent.len() <= UNSENT_MAX + SEALED_MAX);
        }
        // What the client sends is not answered for: it reads nothing.
        assert!(tls.unsent.len() <= UNSENT_MAX);
        if bytes.is_empty() {
            return;
        }
    }
}

#[test]
fn the_end_is_announced_and_noticed() {
    let (mut tls, mut client) = connected(&version::TLS13, 100_000);
    let mut sent = socket(100_000);
    tls.close();
    tls.close();
    assert!(tls.flush(&mut sent).expect("room"));
    to_client(&sent.taken, &mut client);
    assert!(matches!(client.reader().read(&mut [0]), Ok(0)), "not a clean end");
    client.send_close_notify();
    to_server(&mut client, &mut tls, 10);
    assert!(tls.is_peer_closed());
}

#[test]
fn bytes_that_are_no_tls_are_refused() {
    let (mut tls, _) = pair(&version::TLS13);
    let error = tls.receive(&[22, 3, 1, 0, 4, 9, 9, 9, 9], &mut Vec::new());
    assert_eq!(error.expect_err("no ClientHello").kind(), ErrorKind::InvalidData);
    assert!(tls.receive(&[22], &mut Vec::new()).is_err());
    assert!(tls.seal_unsent(b"x").is_err());
    tls.close();
}

#[test]
fn a_damaged_record_is_answered_by_an_alert() {
    let (mut tls, mut client) = connected(&version::TLS13, 100_000);
    let mut bytes = Vec::new();
    client.writer().write_all(b"hello").expect("room");
    client.write_tls(&mut bytes).expect("bytes");
    *bytes.last_mut().expect("bytes") ^= 1;
    let mut plain = Vec::new();
    assert!(tls.receive(&bytes, &mut plain).is_err() && plain.is_empty());
    assert!(tls.has_unsent());
}

#[test]
fn bytes_changed_on_the_way_become_no_other_plaintext_and_nothing_panics() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let (mut tls, mut client) = connected(&version::TLS13, 100_000);
        let mut bytes = Vec::new();
        for _ in 0..3 {
            client.writer().write_all(&[1; 100]).expect("room");
            if random.bool() {
                client.refresh_traffic_keys().expect("TLS 1.3");
            }
            client.write_tls(&mut bytes).expect("bytes");
        }
        let at = random.usize(..bytes.len());
        bytes[at] ^= random.u8(1..);
        let mut plain = Vec::new();
        for piece in bytes.chunks(random.usize(1..200)) {
            let _ = tls.receive(piece, &mut plain);
            let _ = tls.write(b"x", &mut socket(50));
        }
        tls.close();
        let _ = tls.flush(&mut socket(50));
        assert!(plain.len() <= 300 && plain.iter().all(|byte| *byte == 1));
    }
}

#[test]
fn a_client_hello_changed_on_the_way_panics_nothing() {
    let mut random = fastrand::Rng::with_seed(8);
    let (_, mut client) = pair(&version::TLS13);
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("bytes");
    for _ in 0..300 {
        let (mut tls, _) = pair(&version::TLS13);
        let mut bytes = hello.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        for piece in bytes.chunks(random.usize(1..300)) {
            let _ = tls.receive(piece, &mut Vec::new());
        }
        let _ = tls.seal_unsent(b"x");
        tls.close();
    }
}
