//! Several nodes on one database: each streams every round, and a client may change nodes.

use sqlx::{Postgres, Transaction};

use testkit::{
    DedicatedCluster, FaultProxy, TestDatabase, TestServer, WsClient, database_alone, eventually,
    round::ids,
};

/// A round of crash in a transaction that stays open.
async fn unfinished(database: &TestDatabase, id: i64) -> Transaction<'static, Postgres> {
    let mut transaction = database.pool.begin().await.expect("a transaction");
    let insert = "insert into rounds (id, game_id, finished_at) \
        select $1, id, now() from games where slug = 'crash'";
    sqlx::query(insert).bind(id).execute(&mut *transaction).await.expect("an insert");
    transaction
}

async fn commit(transaction: Transaction<'static, Postgres>) {
    transaction.commit().await.expect("a commit");
}

#[tokio::test]
async fn a_client_that_changes_nodes_loses_no_round_that_the_other_node_had_not_sent() {
    let database = TestDatabase::migrated_with(&["--capture", "poll"]).await;
    database.run(include_str!("../sql/sample_games.sql")).await;
    let one = TestServer::on(database.url()).start().await;
    one.counts("datastream_other_nodes 0").await;
    let other = TestServer::on(database.url()).start().await;
    one.counts("datastream_other_nodes 1").await;
    other.counts("datastream_other_nodes 1").await;
    let mut client = WsClient::connect(other.ws("/ws/crash")).await;
    let late = unfinished(&database, 7001).await;
    let early = unfinished(&database, 7002).await;
    // `one` finds both rounds in one poll, in the order of transactions. `other` finds them one by one.
    one.freeze().await;
    commit(early).await;
    assert_eq!(client.next_round().await.round_id, 7002);
    drop(client);
    commit(late).await;
    one.signal("CONT");
    let mut steady = WsClient::connect(one.ws("/ws")).await;
    steady.rounds_until(database.finish("double", "{}").await).await;
    let mut client = WsClient::connect(one.ws("/ws/crash?after=7002")).await;
    assert_eq!(client.next_round().await.round_id, 7001);
}

#[tokio::test]
async fn a_node_that_is_alone_again_resumes_its_later_rounds_without_repeats() {
    let (_cluster, database) = database_alone().await;
    let one = TestServer::on(database.url()).start().await;
    let other = TestServer::on(database.url()).start().await;
    one.counts("datastream_other_nodes 1").await;
    let mut steady = WsClient::connect(one.ws("/ws/crash")).await;
    let shared = [unfinished(&database, 7001).await, unfinished(&database, 7002).await];
    // One poll finds both, so that the other server may have sent them in the other order.
    one.freeze().await;
    for transaction in shared {
        commit(transaction).await;
    }
    one.signal("CONT");
    assert_eq!(ids(&steady.rounds(2).await), [7001, 7002]);
    other.kill().await;
    one.counts("datastream_other_nodes 0").await;
    let (first, second) = (unfinished(&database, 8001).await, unfinished(&database, 8002).await);
    commit(first).await;
    assert_eq!(steady.next_round().await.round_id, 8001);
    commit(second).await;
    assert_eq!(steady.next_round().await.round_id, 8002);
    // The other node may have sent 7001 after 7002; only this one has sent 8001.
    let mut client = WsClient::connect(one.ws("/ws/crash?after=7002")).await;
    assert_eq!(ids(&client.rounds(3).await), [7001, 8001, 8002]);
    let mut client = WsClient::connect(one.ws("/ws/crash?after=8002")).await;
    let last = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, last);
}

/// A server that has sent round 7002 before 7001, the older transaction's, and can be cut off.
struct CutOff {
    first: i64,
    server: TestServer,
    proxy: FaultProxy,
    database: TestDatabase,
    _cluster: DedicatedCluster,
}

impl CutOff {
    async fn start() -> Self {
        let (_cluster, database) = database_alone().await;
        let proxy = FaultProxy::start(database.address.tcp_port).await;
        let server = TestServer::on(database.url_through(proxy.port)).start().await;
        let mut steady = WsClient::connect(server.ws("/ws/crash")).await;
        let first = database.finish("crash", "{}").await;
        assert_eq!(steady.next_round().await.round_id, first);
        let (older, younger) =
            (unfinished(&database, 7001).await, unfinished(&database, 7002).await);
        commit(younger).await;
        assert_eq!(steady.next_round().await.round_id, 7002);
        commit(older).await;
        assert_eq!(steady.next_round().await.round_id, 7001);
        Self { first, server, proxy, database, _cluster }
    }

    async fn cut(&self) {
        self.proxy.refuse();
        self.server.unready().await;
    }

    /// Takes round 7001 from another server, which replays in the order of transactions.
    async fn take_first_from(&self, other: &TestServer) {
        let after = format!("/ws/crash?after={}", self.first);
        let mut client = WsClient::connect(other.ws(&after)).await;
        assert_eq!(client.next_round().await.round_id, 7001);
    }

    /// The round that a client gets which names 7001.
    async fn after_7001(&self) -> i64 {
        let mut client = WsClient::connect(self.server.ws("/ws/crash?after=7001")).await;
        client.next_round().await.round_id
    }

    /// The number of the server that answers resumes exactly.
    async fn exact_server(&self) -> Option<String> {
        self.database.text("select server::text from datastream.exact_server").await
    }
}

/// Sends a signal to a process of PostgreSQL.
fn signal(pid: &str, name: &str) {
    let status = std::process::Command::new("kill").args(["-s", name, pid]).status();
    assert!(status.expect("kill").success(), "kill -s {name} {pid}");
}

/// Whether the server waited for another one's lease.
fn waited(server: &TestServer) -> bool {
    server.log().iter().any(|line| line.contains("may still answer resumes exactly"))
}

#[tokio::test]
async fn a_server_that_lost_the_database_repeats_what_another_server_may_have_sent_later() {
    let one = CutOff::start().await;
    one.cut().await;
    let other = TestServer::on(one.database.url()).start().await;
    assert!(waited(&other), "the first server has not ended: {:?}", other.log());
    one.take_first_from(&other).await;
    assert_eq!(one.after_7001().await, 7002);
}

#[tokio::test]
async fn a_server_that_comes_back_repeats_what_a_server_that_has_ended_may_have_sent_later() {
    let one = CutOff::start().await;
    one.cut().await;
    let other = TestServer::on(one.database.url()).start().await;
    one.take_first_from(&other).await;
    other.kill().await;
    one.proxy.resume();
    one.server.ready().await;
    assert_eq!(one.after_7001().await, 7002);
    assert!(!waited(&one.server), "the other server has ended: {:?}", one.server.log());
    // What it has sent alone since then, it replays exactly.
    one.server.counts("datastream_other_nodes 0").await;
    let mut steady = WsClient::connect(one.server.ws("/ws/crash")).await;
    let (older, younger) =
        (unfinished(&one.database, 8001).await, unfinished(&one.database, 8002).await);
    commit(younger).await;
    steady.rounds_until(8002).await;
    commit(older).await;
    steady.rounds_until(8001).await;
    let mut client = WsClient::connect(one.server.ws("/ws/crash?after=8001")).await;
    let last = one.database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, last);
}

#[tokio::test]
async fn a_server_that_comes_back_alone_replays_exactly_what_it_sent_before() {
    let one = CutOff::start().await;
    let number = one.exact_server().await;
    assert!(number.is_some());
    one.cut().await;
    one.proxy.resume();
    one.server.ready().await;
    assert_eq!(one.exact_server().await, number);
    let mut client = WsClient::connect(one.server.ws("/ws/crash?after=7001")).await;
    let last = one.database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, last, "7002 came before 7001");
}

#[tokio::test]
async fn a_server_whose_last_session_ends_late_waits_for_it_and_replays_exactly() {
    let one = CutOff::start().await;
    let listening = "select string_agg(pid::text, ' ') from pg_stat_activity \
        where application_name like 'datastream listen%'";
    let former = one.database.text(listening).await.expect("a session");
    // It does not notice that its connection is cut, nor that it is ended, and holds its locks.
    signal(&former, "STOP");
    one.cut().await;
    one.proxy.resume();
    let waits = "select count(*)::text from pg_stat_activity where query like '%pg_terminate_backend%' \
        and application_name like 'datastream listen%' and now() - backend_start > '300 ms'";
    eventually("the next session to wait for its end", || async {
        (one.database.text(waits).await.as_deref() == Some("1")).then_some(())
    })
    .await;
    signal(&former, "CONT");
    one.server.ready().await;
    let mut client = WsClient::connect(one.server.ws("/ws/crash?after=7001")).await;
    let last = one.database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, last, "7002 came before 7001");
}

#[tokio::test]
async fn a_restart_waits_for_no_lease_after_a_stop_or_a_kill() {
    let one = CutOff::start().await;
    one.server.signal("TERM");
    let CutOff { server, database, _cluster, .. } = one;
    assert_eq!(server.exit_code().await, Some(0));
    let number = "select server::text from datastream.exact_server";
    assert_eq!(database.text(number).await, None, "a stopped server removes its number");
    let server = TestServer::on(database.url()).start().await;
    let killed = database.text(number).await;
    assert!(killed.is_some() && !waited(&server));
    server.kill().await;
    let server = TestServer::on(database.url()).start().await;
    eventually("its number", || async {
        let number = database.text(number).await;
        (number.is_some() && number != killed).then_some(())
    })
    .await;
    assert!(!waited(&server), "{:?}", server.log());
}

#[tokio::test]
async fn a_newcomer_that_a_stranger_hides_from_the_first_server_costs_no_round() {
    let one = CutOff::start().await;
    // PostgreSQL grants no shared lock while somebody waits for the exclusive one.
    let pool = one.database.pool.clone();
    let waiting = testkit::wait::beside(async move {
        let _ = sqlx::query("select pg_advisory_lock(7264, 10)").execute(&pool).await;
    });
    let waits = "select count(*)::text from pg_locks where locktype = 'advisory' and not granted";
    eventually("the stranger to wait", || async {
        (one.database.text(waits).await.as_deref() == Some("1")).then_some(())
    })
    .await;
    let other = TestServer::on(one.database.url()).start().await;
    one.take_first_from(&other).await;
    assert_eq!(one.after_7001().await, 7002);
    waiting.abort();
}
