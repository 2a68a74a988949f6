//! Peers that read nothing, slowly, or all.

use super::*;
use crate::ops::telemetry::metrics::Metrics;
use tokio::net::TcpListener;

async fn pair(patience: Duration) -> (MeteredSocket, TcpStream) {
    pair_within(patience, MemoryBudget::unlimited()).await
}

async fn pair_within(patience: Duration, budget: MemoryBudget) -> (MeteredSocket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let peer = TcpStream::connect(listener.local_addr().expect("address"));
    let (peer, accepted) = tokio::join!(peer, listener.accept());
    let tcp = accepted.expect("accept").0;
    let socket = MeteredSocket::new(tcp, patience, budget, Arc::default());
    (socket, peer.expect("connect"))
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_reset() {
    let (mut socket, mut peer) = pair(Duration::from_millis(50)).await;
    let gauge = socket.gauge();
    assert!(!gauge.is_blocked());
    let error = socket.write_all(&vec![0; 64 << 20]).await.expect_err("nobody reads");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(gauge.is_blocked());
    drop(socket);
    let error = peer.read_to_end(&mut Vec::new()).await.expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// The end of a long write to a peer that reads so many bytes a millisecond.
async fn written_to(mut socket: MeteredSocket, mut peer: TcpStream, bytes: usize) -> ErrorKind {
    let reader = async move {
        loop {
            peer.read_exact(&mut vec![0; bytes]).await.expect("bytes");
            sleep(Duration::from_millis(1)).await;
        }
    };
    let long = vec![0; 64 << 20];
    tokio::select! {
        () = reader => unreachable!(),
        written = socket.write_all(&long) => written.expect_err("too slow").kind(),
    }
}

#[tokio::test]
async fn a_peer_that_reads_less_than_2_kb_a_second_is_reset() {
    let (socket, peer) = pair(Duration::from_millis(200)).await;
    assert_eq!(written_to(socket, peer, 1).await, ErrorKind::TimedOut);
}

#[tokio::test]
async fn once_the_share_is_half_used_a_peer_that_reads_less_than_64_kb_a_second_is_reset() {
    let budget = MemoryBudget::new(1 << 20, &Metrics::default());
    let (socket, peer) = pair_within(Duration::from_millis(200), budget.clone()).await;
    let half = budget.share(MemoryUse::lists) / 2 + 1;
    let _used = budget.take(MemoryUse::lists, None, half).expect("memory");
    assert_eq!(written_to(socket, peer, 16).await, ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_peer_that_reads_gets_all_bytes() {
    let (mut socket, mut peer) = pair(Duration::from_secs(10)).await;
    let reader = async move {
        let mut read = Vec::new();
        peer.read_to_end(&mut read).await.expect("read");
        read.len()
    };
    let writer = async move {
        socket.write_all(&vec![0; 8 << 20]).await.expect("write");
        assert!(!socket.gauge().is_blocked());
    };
    assert_eq!(tokio::join!(reader, writer).0, 8 << 20);
}

#[tokio::test]
async fn bytes_that_were_put_back_are_read_first() {
    let (mut socket, mut peer) = pair(Duration::from_secs(10)).await;
    peer.write_all(b"later").await.expect("write");
    socket.put_back(Bytes::from_static(b"first"));
    assert!(socket.has_bytes().await);
    let mut read = [0; 10];
    socket.read_exact(&mut read).await.expect("ten bytes");
    assert_eq!(&read, b"firstlater");
    drop(peer);
    assert!(!socket.has_bytes().await);
}
