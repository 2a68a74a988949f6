//! A standby is refused until its promotion, and streamed after it.

use embedded_postgres::Stop;

use testkit::{
    DedicatedCluster, TestDatabase, TestServer, WsClient, binary::datastream, cluster::Address,
    eventually, get, round::ids,
};

#[tokio::test]
async fn a_standby_is_refused_with_a_remedy() {
    let primary = DedicatedCluster::start();
    let database = TestDatabase::on(&primary.address()).await;
    let standby = DedicatedCluster::standby_of(&primary);
    let url = standby.address().url(&database.name);
    let output = datastream(&["serve", "--http-addr", "127.0.0.1:0"]);
    let output = output.env("DATABASE_URL", url).run().await;
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("standby"), "{}", output.stderr);
    assert!(output.stderr.contains("target_session_attrs"), "{}", output.stderr);
}

#[tokio::test]
async fn a_promoted_standby_is_streamed_without_repeats() {
    let mut primary = DedicatedCluster::start_with(&[("synchronous_commit", "on")]);
    let database = TestDatabase::on(&primary.address()).await;
    // Finished within ten minutes, but before the server started: not streamed at the failover.
    database.finish_many("crash", 20).await;
    let standby = DedicatedCluster::standby_of(&primary);
    let server = TestServer::on(either(&primary, &standby, &database))
        .env("DATASTREAM_HISTORY", "4")
        .start()
        .await;
    let before = database.finish_many_streamed(&server, "crash", 10).await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={}", before[9]))).await;
    let replica = connected(&standby.address(), &database.name).await;
    // Rounds that the game deleted do not count as lost by the database.
    database.run(&format!("delete from rounds where id = {}", before[2])).await;
    gone(&replica, before[2]).await;
    replayed(&replica, before[9]).await;
    primary.stop(Stop::Immediate);
    replica.run("select pg_promote()").await;
    server.ready().await;
    let after = replica.finish_many("crash", 10).await;
    assert_eq!(ids(&client.rounds_until(after[9]).await), after);
    server.counts("datastream_rounds_lost_by_database_total 0").await;
}

#[tokio::test]
async fn rounds_that_a_standby_had_not_received_are_counted_as_lost() {
    let mut primary = DedicatedCluster::start_with(&[("synchronous_commit", "on")]);
    let database = TestDatabase::on(&primary.address()).await;
    let standby = DedicatedCluster::standby_of(&primary);
    let server = TestServer::on(either(&primary, &standby, &database)).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let before = database.finish_many_streamed(&server, "crash", 5).await;
    let replica = connected(&standby.address(), &database.name).await;
    replayed(&replica, before[4]).await;
    replica.run("alter system set primary_conninfo = ''").await;
    replica.run("select pg_reload_conf()").await;
    eventually("the standby to follow no more", || async {
        let receivers = "select count(*)::text from pg_stat_wal_receiver";
        (replica.text(receivers).await.as_deref() == Some("0")).then_some(())
    })
    .await;
    let lost = database.finish_many_streamed(&server, "crash", 5).await;
    primary.stop(Stop::Immediate);
    replica.run("select pg_promote()").await;
    server.counts("datastream_rounds_lost_by_database_total 1").await;
    let after = replica.finish_many("crash", 5).await;
    let seen = [before, lost, after].concat();
    assert_eq!(ids(&client.rounds(15).await), seen);
    let told = |line: &String| line.contains("came back without") && line.contains("rounds=5");
    assert!(server.log().iter().any(told), "{:?}", server.log());
}

#[tokio::test]
async fn old_rounds_that_only_the_new_primary_has_are_streamed() {
    let mut primary = DedicatedCluster::start_with(&[("synchronous_commit", "on")]);
    let database = TestDatabase::on(&primary.address()).await;
    // Without a notification, no data waits in the server's socket.
    database
        .run("select datastream.attach('public.rounds', mode => 'poll', replace => true)")
        .await;
    let old = database.finish_at("crash", "now() - interval '2 days'").await;
    let standby = DedicatedCluster::standby_of(&primary);
    let server = TestServer::on(either(&primary, &standby, &database)).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, old);
    server.freeze().await;
    let unseen = database.finish_at("crash", "now() - interval '1 day'").await;
    let replica = connected(&standby.address(), &database.name).await;
    replayed(&replica, unseen).await;
    primary.stop(Stop::Immediate);
    replica.run("select pg_promote()").await;
    server.signal("CONT");
    assert_eq!(client.next_round().await.round_id, unseen);
    let next = replica.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, next);
}

/// The most memory that a server has had, in KiB (proc(5), `VmHWM`).
fn peak_kib(server: &TestServer) -> usize {
    let path = format!("/proc/{}/status", server.pid().expect("a running server"));
    let status = std::fs::read_to_string(path).expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test]
async fn a_failover_reads_the_content_of_new_rounds_alone() {
    let mut primary = DedicatedCluster::start_with(&[("synchronous_commit", "on")]);
    let database = TestDatabase::on(&primary.address()).await;
    // 72 MB that finished within ten minutes.
    let large = "insert into rounds (game_id, finished_at, extras) \
        select id, now(), jsonb_build_object('x', repeat('x', 900000)) from games, generate_series(1, 80) \
        where slug = 'crash'";
    database.run(large).await;
    let last = database.finish("crash", "{}").await;
    let standby = DedicatedCluster::standby_of(&primary);
    let server = TestServer::on(either(&primary, &standby, &database))
        .env("DATASTREAM_HISTORY", "1")
        .start()
        .await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, last);
    let replica = connected(&standby.address(), &database.name).await;
    replayed(&replica, last).await;
    let before = peak_kib(&server);
    primary.stop(Stop::Immediate);
    replica.run("select pg_promote()").await;
    let new = replica.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, new);
    let grown = peak_kib(&server) - before;
    assert!(grown < 30 * 1024, "{grown} KiB");
}

/// A URL with both hosts that connects to the primary.
pub(crate) fn either(
    one: &DedicatedCluster,
    two: &DedicatedCluster,
    database: &TestDatabase,
) -> String {
    let (one, two) = (one.address().tcp_port, two.address().tcp_port);
    format!(
        "postgresql://postgres@127.0.0.1:{one},127.0.0.1:{two}/{}?target_session_attrs=read-write",
        database.name
    )
}

#[tokio::test]
async fn queries_go_to_the_primary_if_the_first_host_is_a_standby() {
    let primary = DedicatedCluster::start();
    let database = TestDatabase::on(&primary.address()).await;
    let standby = DedicatedCluster::standby_of(&primary);
    let server = TestServer::on(either(&standby, &primary, &database)).start().await;
    // Maintenance writes: on a standby it fails and retries a minute later.
    server.counts("datastream_reconciliations_total 1").await;
    let sessions = "select count(*)::text from pg_stat_activity where application_name like 'datastream query%'";
    let replica = connected(&standby.address(), &database.name).await;
    // A refused session is listed until it has ended.
    eventually("no session on the standby", || async {
        (replica.text(sessions).await.as_deref() == Some("0")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn queries_leave_a_server_that_became_read_only() {
    let primary = DedicatedCluster::start_with(&[("synchronous_commit", "on")]);
    let database = TestDatabase::on(&primary.address()).await;
    let first = database.finish("crash", "{}").await;
    let standby = DedicatedCluster::standby_of(&primary);
    let server = TestServer::on(either(&primary, &standby, &database)).start().await;
    let latest =
        async || get(&server.http("/rounds/crash?limit=1")).await.json()[0]["round_id"].take();
    assert_eq!(latest().await, first);
    let replica = connected(&standby.address(), &database.name).await;
    replayed(&replica, first).await;
    // Demoted in place: it still answers its existing sessions.
    database.run("alter system set default_transaction_read_only = on").await;
    database.run("select pg_reload_conf()").await;
    replica.run("select pg_promote()").await;
    let second = replica.finish("crash", "{}").await;
    eventually("queries to go to the new primary", || async {
        (latest().await == second).then_some(())
    })
    .await;
}

/// The same database at another address.
pub(crate) async fn connected(address: &Address, name: &str) -> TestDatabase {
    let pool = sqlx::PgPool::connect(&address.url(name)).await.expect("a connection");
    TestDatabase { name: name.to_owned(), pool, address: address.clone() }
}

async fn replayed(replica: &TestDatabase, round: i64) {
    told_of(replica, round, "1").await;
}

async fn gone(replica: &TestDatabase, round: i64) {
    told_of(replica, round, "0").await;
}

async fn told_of(replica: &TestDatabase, round: i64, count: &str) {
    eventually("the standby to know", || async {
        let sql = format!("select count(*)::text from rounds where id = {round}");
        (replica.text(&sql).await.as_deref() == Some(count)).then_some(())
    })
    .await;
}
