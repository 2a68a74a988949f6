//! A damaged database: writes of the game still succeed, and rounds that were not recorded or not
//! announced are found.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use testkit::{
    DedicatedCluster, FaultProxy, TestDatabase, TestServer, WsClient, binary::datastream,
    eventually, get, round::ids, serving, wait::beside,
};

#[tokio::test]
async fn rounds_finished_without_an_outbox_arrive_after_it_is_restored() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let open = database.open("crash").await;
    database.run("alter table datastream.outbox rename to outbox_away").await;
    let inserted = database.finish("crash", "{}").await;
    database.finish_open(open, "{}").await;
    server.unready().await;
    database.run("alter table datastream.outbox_away rename to outbox").await;
    let mut found = ids(&client.rounds(2).await);
    found.sort_unstable();
    assert_eq!(found, [open, inserted]);
    server.counts("datastream_rounds_reconciled_total 2").await;
    let next = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, next);
}

#[tokio::test]
async fn an_outbox_that_refuses_rows_does_not_fail_the_insert() {
    let (database, server) = serving().await;
    // Otherwise the first reconciliation could find the round before the next one exists.
    server.counts("datastream_reconciliations_total 1").await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database
        .run("alter table datastream.outbox add constraint refuses check (false) not valid")
        .await;
    let inserted = database.finish("crash", "{}").await;
    database.run("alter table datastream.outbox drop constraint refuses").await;
    let next = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, next);
    // Each connection starts a reconciliation.
    database.terminate_server_sessions().await;
    assert_eq!(client.next_round().await.round_id, inserted);
    server.counts("datastream_rounds_reconciled_total 1").await;
}

#[tokio::test]
async fn rounds_deleted_by_retention_are_not_streamed_again() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_RETENTION", "1ms").start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    for looks in 1..=3 {
        server.counts(&format!("datastream_reconciliations_total {looks}")).await;
        let round = database.finish("crash", "{}").await;
        assert_eq!(client.next_round().await.round_id, round);
        // Each connection starts a reconciliation and a trim.
        database.terminate_server_sessions().await;
    }
    server.counts("datastream_reconciliations_total 4").await;
    let kept = database.text("select count(*)::text from datastream.outbox").await;
    assert_eq!(kept.as_deref(), Some("0"));
    server.counts("datastream_rounds_reconciled_total 0").await;
}

/// What a proxy does with a message of PostgreSQL.
#[derive(Clone, Copy, Debug)]
enum Pass {
    On,
    Drop,
    Cut,
}

/// Forwards sessions; `look` decides for each message by its type and content.
async fn filtering_proxy(
    upstream: u16,
    look: impl Fn(u8, &[u8]) -> Pass + Copy + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    beside(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", upstream)).await.expect("PostgreSQL");
            let (mut from_near, to_near) = near.into_split();
            let (from_far, mut to_far) = far.into_split();
            let forth = beside(async move { tokio::io::copy(&mut from_near, &mut to_far).await });
            beside(async move {
                let _ = pass(from_far, to_near, look).await;
                forth.abort();
            });
        }
    });
    port
}

/// A message of PostgreSQL has a type byte, its length in four bytes, and its content.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    look: impl Fn(u8, &[u8]) -> Pass,
) -> std::io::Result<()> {
    loop {
        let (kind, length) = (from.read_u8().await?, from.read_u32().await?);
        let mut rest = vec![0; length as usize - 4];
        from.read_exact(&mut rest).await?;
        match look(kind, &rest) {
            Pass::On => {
                let head = [&[kind], length.to_be_bytes().as_slice()].concat();
                to.write_all(&[head, rest].concat()).await?;
            }
            Pass::Drop => {}
            Pass::Cut => return Ok(()),
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_during_a_read_loses_no_round() {
    static CUT: AtomicBool = AtomicBool::new(false);
    let database = TestDatabase::migrated_with(&["--capture", "poll"]).await;
    let cut_once = |kind, message: &[u8]| {
        let marked = kind == b'D' && message.windows(8).any(|part| part == b"cut here");
        if marked && !CUT.swap(true, Ordering::SeqCst) { Pass::Cut } else { Pass::On }
    };
    let port = filtering_proxy(database.address.tcp_port, cut_once).await;
    let server = TestServer::on(database.url())
        .env("DATASTREAM_LISTEN_URL", database.url_through(port) + "?sslmode=disable")
        .start()
        .await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let round = database.finish("crash", r#"{"link": "cut here"}"#).await;
    assert_eq!(client.next_round().await.round_id, round);
    assert!(CUT.load(Ordering::SeqCst));
    let next = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, next);
}

#[tokio::test]
async fn rounds_read_before_the_first_connection_breaks_are_not_streamed_again() {
    static READ: AtomicUsize = AtomicUsize::new(0);
    static CUT: AtomicBool = AtomicBool::new(false);
    let database = TestDatabase::new().await;
    let rounds = database.finish_many("crash", 5).await;
    // The columns identify the result: first the recent rounds, then the rounds that finished recently.
    let cut_once = |kind, columns: &[u8]| {
        let has = |name: &[u8]| kind == b'T' && columns.windows(name.len()).any(|at| at == name);
        READ.fetch_add(usize::from(has(b"floor\0")), Ordering::SeqCst);
        let is_recent = has(b"finished_micros\0") && !has(b"extras\0");
        if is_recent && !CUT.swap(true, Ordering::SeqCst) { Pass::Cut } else { Pass::On }
    };
    let port = filtering_proxy(database.address.tcp_port, cut_once).await;
    let server = TestServer::on(database.url())
        .env("DATASTREAM_LISTEN_URL", database.url_through(port) + "?sslmode=disable")
        .start()
        .await;
    assert!(CUT.load(Ordering::SeqCst));
    assert_eq!(READ.load(Ordering::SeqCst), 1);
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={}", rounds[0]))).await;
    assert_eq!(ids(&client.rounds(4).await), rounds[1..]);
    assert_eq!(server.queries().await, 0.0, "memory answers");
    let next = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, next);
}

#[tokio::test]
async fn a_listener_without_notifications_is_reported_and_rounds_arrive_by_polls() {
    let database = TestDatabase::new().await;
    // A pooler in transaction mode delivers no notifications.
    let deaf = |kind, _: &[u8]| if kind == b'A' { Pass::Drop } else { Pass::On };
    let port = filtering_proxy(database.address.tcp_port, deaf).await;
    let server = TestServer::on(database.url())
        .env("DATASTREAM_LISTEN_URL", database.url_through(port) + "?sslmode=disable")
        .start()
        .await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    server.counts("datastream_listener_deaf 1").await;
    let ready = get(&server.http("/readyz")).await;
    assert_eq!((ready.status, &ready.json()["deaf"]), (200, &true.into()));
    let rounds = database.finish_many("crash", 10).await;
    assert_eq!(ids(&client.rounds(10).await), rounds);
    let told =
        |line: &String| line.contains("no notification arrives") && line.contains("LISTEN_URL");
    assert!(server.log().iter().any(told));
}

#[tokio::test]
async fn a_probe_that_could_not_be_sent_does_not_mark_the_listener_deaf() {
    let database = TestDatabase::new().await;
    let proxy = FaultProxy::start(database.address.tcp_port).await;
    proxy.refuse();
    let server = TestServer::on(database.url_through(proxy.port))
        .env("DATASTREAM_LISTEN_URL", database.url())
        .start()
        .await;
    let logged = |text: &'static str| {
        let server = &server;
        eventually(format!("`{text}` in the log"), move || async move {
            server.log().iter().any(|line| line.contains(text)).then_some(())
        })
    };
    logged("cannot send a probe").await;
    proxy.resume();
    logged("notifications arrive").await;
    assert!(!server.log().iter().any(|line| line.contains("no notification arrives")));
    server.counts("datastream_listener_deaf 0").await;
}

#[tokio::test]
async fn a_full_notify_queue_recovers_and_does_not_affect_capture_poll() {
    let Ok(major) = testkit::cluster::installation().major().parse::<u32>() else { return };
    if major < 17 {
        eprintln!("left out: the size of the notification queue can be set since PostgreSQL 17");
        return;
    }
    let cluster = DedicatedCluster::start_with(&[("max_notify_queue_pages", "64")]);
    let database = TestDatabase::on(&cluster.address()).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    // A listener that is idle in a transaction keeps the queue from being truncated.
    let mut idle = database.pool.acquire().await.expect("a connection");
    for statement in ["listen other", "begin", "select pg_current_xact_id()"] {
        sqlx::raw_sql(statement).execute(&mut *idle).await.expect(statement);
    }
    let fill = "select pg_notify('other', repeat('x', 7900))";
    let full = async { while sqlx::query(fill).execute(&database.pool).await.is_ok() {} };
    testkit::within("a full queue", full).await;
    let insert = "insert into rounds (game_id, finished_at) \
        select id, now() from games where slug = 'crash'";
    let refused = sqlx::query(insert).execute(&database.pool).await.expect_err("a full queue");
    assert!(refused.to_string().contains("too many notifications"), "{refused}");
    let run =
        async |words: &[&str]| datastream(words).env("DATABASE_URL", database.url()).run().await;
    let doctor = run(&["doctor"]).await;
    assert_eq!(doctor.code, Some(1), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("FAILED   queue: "), "{}", doctor.stdout);
    assert!(
        doctor.stdout.contains("or run: datastream migrate --capture poll"),
        "{}",
        doctor.stdout
    );
    let poll = run(&["migrate", "--capture", "poll"]).await;
    assert_eq!(poll.code, Some(0), "{}", poll.stderr);
    let polled = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, polled);
    database
        .run("select datastream.attach('public.rounds', mode => 'auto', replace => true)")
        .await;
    // Closes the session instead of a rollback, after which it would be sent all notifications.
    drop(idle.detach());
    let written = eventually("the game to write again", || async {
        // PostgreSQL truncates the queue at the next notification or when the usage is queried, which the
        // server does each minute.
        database.run("select pg_notification_queue_usage()").await;
        sqlx::query(insert).execute(&database.pool).await.ok()
    });
    written.await;
    let next = database.finish("crash", "{}").await;
    assert_eq!(client.rounds_until(next).await.len(), 2);
}
