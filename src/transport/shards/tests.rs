//! Shards on real sockets, with a hub and no database.

use std::{
    io::{Read, Write},
    net::{Shutdown as Half, SocketAddr, TcpListener, TcpStream},
    num::NonZeroUsize,
    time::Duration,
};

use super::*;
use crate::{
    access::{CurrentKeys, Lease},
    ops::{
        memory_budget::MemoryBudget,
        telemetry::metrics::{ByTransport, Transport},
    },
    postgres::{
        pool,
        round_queries::{QueryPools, RoundQueries},
        target::PgTarget,
    },
    stream::{
        feed::Feed,
        games::Games,
        hub::{self, Captured, Publisher},
        round::{FinishedAt, GameId, NamedRound, Round, RoundId, UnixMillis},
        skipped_rounds::SkippedRounds,
        topic::Topic,
        transaction::{Attachment, Xid},
    },
    transport::{GrantedStream, Protocol},
};

const PATIENCE: Duration = Duration::from_secs(20);

struct TestShards {
    feed: Feed,
    publisher: Publisher,
    shards: Shards,
    failure: mpsc::Receiver<ShardError>,
    shutdown: Shutdown,
    metrics: Metrics,
    listener: TcpListener,
    address: SocketAddr,
}

fn test_shards(heartbeat: Duration) -> TestShards {
    let (metrics, shutdown) = (Metrics::default(), Shutdown::default());
    let budget = MemoryBudget::unlimited();
    let (hub, publisher) = hub::new(NonZeroUsize::new(4096).expect("some"), metrics.clone());
    publisher.open();
    let count = NonZeroUsize::new(2).expect("some");
    let settings = ShardSettings { count, heartbeat, grace: PATIENCE };
    let keys = CurrentKeys::default();
    let started = Shards::start(settings, &hub, &budget, &keys, &metrics, &shutdown);
    let (shards, failure) = started.expect("shards");
    let target = PgTarget::resolve(Some("host=nowhere user=u dbname=d"), |_| None);
    let pool = pool::Pool::lazy(&target.expect("a target"), "query", 1).expect("a pool");
    let history = Arc::new(RoundQueries::new(
        QueryPools::one(&pool),
        metrics.clone(),
        SkippedRounds::new(metrics.clone(), 1 << 20),
    ));
    let feed = Feed::new(hub, Games::default(), history, 10_000, budget);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    TestShards { feed, publisher, shards, failure, shutdown, metrics, listener, address }
}

impl TestShards {
    /// Connects a client whose stream starts at once.
    async fn connect(&self, protocol: Protocol, after: Option<NamedRound>) -> TcpStream {
        self.connect_with_permits(protocol, after, Box::new(())).await
    }

    async fn connect_with_permits(
        &self,
        protocol: Protocol,
        after: Option<NamedRound>,
        permits: Box<dyn std::any::Any + Send + Sync>,
    ) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("a connection");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (socket, _) = self.listener.accept().expect("a connection");
        socket.set_nonblocking(true).expect("a socket");
        let prepared = self.feed.prepare(Topic::Everything, after, None).await.expect("prepared");
        let unread = Default::default();
        let head = b"head\n".to_vec();
        let stream = GrantedStream {
            socket,
            tls: None,
            unread,
            head,
            protocol,
            prepared,
            permits,
            lease: Lease::ENDLESS,
        };
        self.shards.open_stream(stream).await.expect("open");
        client
    }

    fn publish(&self, ids: impl IntoIterator<Item = i64>) {
        self.publisher.publish(ids.into_iter().map(captured).collect());
    }

    fn subscribers(&self) -> i64 {
        let label = ByTransport { transport: Transport::sse };
        self.metrics.subscribers.get_or_create(&label).get()
    }
}

fn captured(id: i64) -> Captured {
    let round = Round {
        round_id: RoundId::number(id),
        game_id: GameId::number(id % 3),
        game_slug: "game".into(),
        game_type: "kind".into(),
        finished_at: FinishedAt::from_micros(id).expect("in range"),
        extras: "{}".into(),
        timestamp: UnixMillis(1),
    };
    let (xid, before, attachment) = (Xid(1), Xid(1), Attachment(0));
    Captured { round, xid, attachment, before, poll: 0, at: None, recorded: None }
}

/// Reads until the text arrives.
fn read_until(client: &mut TcpStream, text: &str) -> String {
    let (mut all, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let read = client.read(&mut piece).expect("open");
        assert!(read > 0, "the end instead of {text:?} after {}", String::from_utf8_lossy(&all));
        // The text may start in the previous piece.
        let new = all.len().saturating_sub(text.len());
        all.extend_from_slice(&piece[..read]);
        if all[new..].windows(text.len()).any(|bytes| bytes == text.as_bytes()) {
            return String::from_utf8_lossy(&all).into_owned();
        }
    }
}

fn ids(text: &str) -> Vec<i64> {
    let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
    ids.map(|id| id.parse().expect("an id")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_connects_during_publishing_gets_every_round_once() {
    const LAST: i64 = 3001;
    let shards = Arc::new(test_shards(Duration::from_secs(60)));
    shards.publish([1]);
    let publishing = Arc::clone(&shards);
    let publisher = thread::spawn(move || {
        for first in (2..=LAST).step_by(3) {
            publishing.publish(first..first + 3);
            thread::yield_now();
        }
    });
    let mut readers = Vec::new();
    for number in 0..60 {
        let protocol = if number % 2 == 0 { Protocol::Plain } else { Protocol::Chunked };
        // Every third client resumes.
        let after = (number % 3 == 0).then(|| NamedRound::parse("1").expect("an id"));
        let mut client = shards.connect(protocol, after).await;
        readers.push(thread::spawn(move || read_until(&mut client, &format!("id: {LAST}\n"))));
    }
    publisher.join().expect("published");
    for reader in readers {
        let seen = ids(&reader.join().expect("read"));
        let expected: Vec<_> = (seen[0]..=LAST).collect();
        assert_eq!(seen, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_gets_heartbeats_and_a_client_that_disconnects_is_removed() {
    let shards = test_shards(Duration::from_millis(50));
    let mut events = shards.connect(Protocol::Chunked, None).await;
    let mut plain = shards.connect(Protocol::Plain, None).await;
    for client in [&mut events, &mut plain] {
        let start = read_until(client, ": heartbeat ");
        assert!(start.starts_with("head\n"), "{start}");
        read_until(client, ": heartbeat ");
    }
    assert_eq!(shards.subscribers(), 2);
    events.shutdown(Half::Write).expect("half a close");
    while events.read(&mut [0; 512]).expect("an end") > 0 {}
    drop(plain);
    while shards.subscribers() > 0 {
        thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_socket_without_pongs_is_closed_with_1013_and_one_with_pongs_is_not() {
    let shards = test_shards(Duration::from_secs(2));
    let mut silent = shards.connect(Protocol::WebSocket, None).await;
    let mut answering = shards.connect(Protocol::WebSocket, None).await;
    let mut answers = answering.try_clone().expect("a clone");
    let pinged = thread::spawn(move || {
        let (mut pings, mut piece) = (0, [0; 64]);
        while pings < 4 {
            let read = answering.read(&mut piece).expect("open");
            assert!(read > 0 && !piece[..read].contains(&0x88), "closed after {pings} pings");
            pings += piece[..read].iter().filter(|byte| **byte == 0x89).count();
            answers.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).expect("open");
        }
    });
    let mut all = Vec::new();
    silent.read_to_end(&mut all).expect("an end");
    let close = all.windows(4).find(|bytes| bytes[0] == 0x88).expect("a close frame");
    assert_eq!(close[2..], 1013_u16.to_be_bytes());
    pinged.join().expect("four pings");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_every_stream_and_then_the_shards() {
    let shards = test_shards(Duration::from_secs(60));
    shards.publish([1]);
    let mut clients = Vec::new();
    for protocol in [Protocol::Chunked, Protocol::Plain, Protocol::WebSocket] {
        let mut client = shards.connect(protocol, None).await;
        read_until(&mut client, "\"round_id\":1,");
        clients.push(client);
    }
    shards.shutdown.request();
    let ends: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).expect("an end");
            rest
        })
        .collect();
    assert!(ends[0].ends_with(b"0\r\n\r\n") && !ends[1].ends_with(b"\r\n"));
    assert!(ends[2].windows(2).any(|bytes| bytes == 1001_u16.to_be_bytes()));
    assert!(shards.shutdown.finish(PATIENCE).await);
}

/// A permit whose release panics.
struct PanicOnDrop;

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        panic!("a defect");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_panics_is_reported_and_a_shutdown_is_not() {
    let mut shards = test_shards(Duration::from_secs(60));
    let permits = Box::new(PanicOnDrop);
    let mut client = shards.connect_with_permits(Protocol::Chunked, None, permits).await;
    read_until(&mut client, "head\n");
    drop(client);
    let error = shards.failure.recv().await.expect("a failure");
    assert!(matches!(error, ShardError::Panicked(0)), "{error}");
    shards.shutdown.request();
    assert!(shards.shutdown.finish(PATIENCE).await);
    assert!(shards.failure.recv().await.is_none());
}
