//! Faults of the connection to PostgreSQL, and stops of PostgreSQL: each committed round is still
//! streamed once.

use std::time::Instant;

use embedded_postgres::Stop;
use futures_util::future::join_all;

use testkit::{
    DedicatedCluster, FaultProxy, SseClient, TestDatabase, TestServer, WsClient, eventually, get,
    round::ids, serving,
};

/// A server that is connected to the database through a proxy.
async fn proxied() -> (TestDatabase, FaultProxy, TestServer) {
    let database = TestDatabase::new().await;
    let proxy = FaultProxy::start(database.address.tcp_port).await;
    let server = TestServer::on(database.url_through(proxy.port)).start().await;
    (database, proxy, server)
}

#[tokio::test]
async fn rounds_finished_during_an_outage_are_streamed_once_after_it() {
    let (database, proxy, server) = proxied().await;
    let mut websocket = WsClient::connect(server.ws("/ws/crash")).await;
    let mut events = SseClient::connect(&server.http("/sse/crash")).await;
    let before = database.finish("crash", "{}").await;
    assert_eq!(websocket.next_round().await.round_id, before);
    proxy.refuse();
    server.unready().await;
    let during = database.finish_many("crash", 30).await;
    proxy.resume();
    server.ready().await;
    let after = database.finish("crash", "{}").await;
    let expected = [&[before], during.as_slice(), &[after]].concat();
    assert_eq!(ids(&websocket.rounds_until(after).await), expected[1..]);
    assert_eq!(ids(&events.messages_until(after).await), expected);
}

#[tokio::test]
async fn a_round_finished_by_update_during_an_outage_is_streamed() {
    let (database, proxy, server) = proxied().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let old = database.open("crash").await;
    let newer = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, newer);
    proxy.refuse();
    server.unready().await;
    database.finish_open(old, "{}").await;
    proxy.resume();
    assert_eq!(client.next_round().await.round_id, old);
}

#[tokio::test]
async fn a_transaction_that_is_open_across_an_outage_is_streamed() {
    let (database, proxy, server) = proxied().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let mut late = database.pool.begin().await.expect("a transaction");
    let insert = "insert into rounds (id, game_id, finished_at) \
        select 5000, id, now() from games where slug = 'crash'";
    sqlx::query(insert).execute(&mut *late).await.expect("an insert");
    let early = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, early);
    proxy.refuse();
    server.unready().await;
    late.commit().await.expect("a commit");
    proxy.resume();
    assert_eq!(client.next_round().await.round_id, 5000);
}

#[tokio::test]
async fn a_flapping_connection_loses_and_repeats_no_round() {
    let (database, proxy, server) = proxied().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let (rounds, ()) = tokio::join!(database.finish_many("crash", 300), proxy.flap(10));
    let last = database.finish("crash", "{}").await;
    let expected = [rounds.as_slice(), &[last]].concat();
    assert_eq!(ids(&client.rounds_until(last).await), expected);
}

#[tokio::test]
async fn a_half_open_connection_is_detected_and_replaced() {
    let (database, proxy, server) = proxied().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let links = proxy.connections();
    proxy.half_open();
    let during = database.finish("crash", "{}").await;
    proxy.connected(links + 1).await;
    proxy.resume();
    assert_eq!(client.next_round().await.round_id, during);
}

#[tokio::test]
async fn a_stalled_connection_delivers_once_after_it_continues() {
    let (database, proxy, server) = proxied().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    proxy.stall();
    let rounds = database.finish_many("crash", 20).await;
    proxy.resume();
    assert_eq!(ids(&client.rounds_until(rounds[19]).await), rounds);
}

#[tokio::test]
async fn terminated_sessions_reconnect() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let mut all = Vec::new();
    for _ in 0..5 {
        database.terminate_server_sessions().await;
        all.extend(database.finish_many("crash", 10).await);
    }
    assert_eq!(ids(&client.rounds_until(all[49]).await), all);
}

/// Stops PostgreSQL in this way and starts it; the server must reconnect.
async fn restarted(how: Stop) {
    let mut cluster = DedicatedCluster::start_with(&[
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
    ]);
    let database = TestDatabase::on(&cluster.address()).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let mut all = database.finish_many("crash", 10).await;
    cluster.restart(how);
    // The game's pool has to reconnect as well.
    let first = eventually("the game to write again", || database.try_finish()).await;
    all.push(first);
    all.extend(database.finish_many("crash", 10).await);
    assert_eq!(ids(&client.rounds_until(all[20]).await), all);
    server.ready().await;
}

#[tokio::test]
async fn a_fast_restart_of_postgresql_loses_no_round() {
    restarted(Stop::Fast).await;
}

#[tokio::test]
async fn an_immediate_restart_of_postgresql_loses_no_round() {
    restarted(Stop::Immediate).await;
}

#[tokio::test]
async fn a_killed_postgresql_loses_no_round() {
    restarted(Stop::Kill).await;
}

#[tokio::test]
async fn a_killed_backend_loses_no_round() {
    let cluster = DedicatedCluster::start_with(&[("synchronous_commit", "on")]);
    let database = TestDatabase::on(&cluster.address()).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.finish_many("crash", 10).await;
    let victim = "select pid::text from pg_stat_activity where application_name like 'datastream maintenance%'";
    let victim = database.text(victim).await.expect("a session of the server");
    let killed = std::process::Command::new("kill").args(["-9", &victim]).status();
    assert!(killed.expect("kill").success());
    // PostgreSQL ends every session and recovers. The game's pool has to reconnect as well; only the
    // table shows whether a failed write was committed.
    let mut last = 0;
    for _ in 0..10 {
        last = eventually("the game to write again", || database.try_finish()).await;
    }
    let all = "select string_agg(id::text, ',' order by id) from rounds";
    let all = database.text(all).await.expect("rounds");
    let all: Vec<i64> = all.split(',').map(|id| id.parse().expect("an id")).collect();
    assert_eq!(ids(&client.rounds_until(last).await), all);
}

#[tokio::test]
async fn later_rounds_are_streamed_after_a_crash_loses_commits_and_reuses_their_ids() {
    let lossy = [("synchronous_commit", "off"), ("wal_writer_delay", "10s")];
    let mut cluster = DedicatedCluster::start_with(&lossy);
    let database = TestDatabase::on(&cluster.address()).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    // The crash must not lose the tables and the games.
    database.run("checkpoint").await;
    // The game assigns ids itself and reuses those of lost rounds.
    let insert = "insert into rounds (id, game_id, finished_at) \
        select (select coalesce(max(id), 0) + 1 from rounds), id, clock_timestamp() \
        from games where slug = 'crash' returning id";
    let finish =
        || async { sqlx::query_scalar::<_, i64>(insert).fetch_one(&database.pool).await.ok() };
    // PostgreSQL writes its WAL every ten seconds: a crash just after that loses nothing.
    for _ in 0..10 {
        let mut finished = Vec::new();
        for _ in 0..10 {
            finished.push(eventually("the game to write again", finish).await);
        }
        assert_eq!(ids(&client.rounds(10).await), finished);
        cluster.restart(Stop::Immediate);
        let first = eventually("the game to write again", finish).await;
        assert_eq!(client.next_round().await.round_id, first);
        if first <= finished[9] {
            server.counts("datastream_rounds_lost_by_database_total 1").await;
            let last = eventually("the game to write again", finish).await;
            assert_eq!(client.next_round().await.round_id, last);
            return;
        }
    }
    panic!("PostgreSQL forgot nothing in ten crashes");
}

#[tokio::test]
async fn the_stream_starts_at_a_position_that_a_crash_cannot_lose() {
    let lossy = [("synchronous_commit", "off"), ("wal_writer_delay", "200ms")];
    let cluster = DedicatedCluster::start_with(&lossy);
    let database = TestDatabase::on(&cluster.address()).await;
    // PostgreSQL may flush while the server starts, so one try is not enough.
    for _ in 0..5 {
        database.finish("crash", "{}").await;
        let inserted = database.text("select pg_current_wal_insert_lsn()::text").await;
        let _server = TestServer::on(database.url()).start().await;
        let flushed =
            format!("select (pg_current_wal_flush_lsn() >= '{}')::text", inserted.expect("an LSN"));
        assert_eq!(database.text(&flushed).await.as_deref(), Some("true"));
    }
}

#[tokio::test]
async fn clients_stay_connected_and_new_ones_are_seeded_during_an_outage() {
    let (database, proxy, server) = proxied().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let seed = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, seed);
    proxy.refuse();
    server.unready().await;
    let mut late = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(late.next_round().await.round_id, seed);
    proxy.resume();
    let next = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, next);
    assert_eq!(late.next_round().await.round_id, next);
}

#[tokio::test]
async fn waiting_clients_share_one_attempt_while_the_database_is_unavailable() {
    let mut cluster = DedicatedCluster::start();
    let database = TestDatabase::on(&cluster.address()).await;
    // Over TCP: a missing Unix socket is an error at once, a refused port is retried.
    let server = TestServer::on(database.url_through(cluster.address().tcp_port))
        .env("DATASTREAM_HISTORY", "4")
        .start()
        .await;
    let rounds = database.finish_many_streamed(&server, "crash", 20).await;
    cluster.stop(Stop::Immediate);
    server.unready().await;
    let before = server.queries().await;
    let games = (0..10).map(|_| get(&server.http("/games")));
    let topics = ["/ws", "/ws/crash", "/ws/type/multiplier", "/ws?game=crash&game=double", "/ws"];
    let resumes = (0..20).map(|number| {
        let (topic, round) = (topics[number % topics.len()], rounds[number % 10]);
        let mark = if topic.contains('?') { '&' } else { '?' };
        let url = server.ws(&format!("{topic}{mark}after={round}"));
        async move { WsClient::try_connect(&url, &[]).await.err() }
    });
    let begun = Instant::now();
    let unknown = (0..10).map(|_| get(&server.http("/sse/chess")));
    let (games, resumes, unknown) =
        tokio::join!(join_all(games), join_all(resumes), join_all(unknown));
    assert!(games.iter().all(|games| games.status == 200 && games.body.contains("crash")));
    assert!(resumes.iter().all(|status| *status == Some(503)), "{resumes:?}");
    unknown.iter().for_each(|unknown| unknown.assert_problem(503));
    // One for the names, and one for each concurrent replay. On a busy machine, a client that arrives two
    // seconds later causes another.
    let made = server.queries().await - before;
    let most = 6.0 * (1.0 + begun.elapsed().as_secs_f64() / 2.0).floor();
    assert!(made <= most, "40 clients waited for {made} attempts");
}
