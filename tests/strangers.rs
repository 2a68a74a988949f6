//! A role that can only connect may NOTIFY any channel and take any advisory lock. Neither makes the
//! server send an uncommitted round, nor prevents it from sending a committed one.

use sqlx::{Connection, PgConnection};
use testkit::{
    TestDatabase, TestServer, WsClient, cluster::Address, eventually, round::ids, serving,
};

/// A session of a role with nothing but CONNECT.
async fn stranger(database: &TestDatabase) -> PgConnection {
    let role = format!("{}_stranger", database.name);
    let exists = format!("select count(*)::text from pg_roles where rolname = '{role}'");
    if database.text(&exists).await.as_deref() == Some("0") {
        database.run(&format!("create role {role} login")).await;
    }
    let url = Address::tcp_url(&database.name, database.address.tcp_port);
    PgConnection::connect(&url.replace("postgres@", &format!("{role}@"))).await.expect("a session")
}

async fn run(session: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(session).await.expect("it runs");
}

/// A payload as the trigger sends it.
fn payload(round: i64, game: i64) -> String {
    format!(
        r#"{{"round_id":{round},"game_id":{game},"finished_at":"2026-01-17T00:45:42+00:00","extras":{{"forged": true}}}}"#
    )
}

#[tokio::test]
async fn forged_copied_changed_and_flooding_notifications_change_nothing_and_are_counted() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws")).await;
    let first = database.finish("crash", r#"{"point": "1.01"}"#).await;
    assert_eq!(client.next_round().await.round_id, first);
    let mut stranger = stranger(&database).await;
    for round in [first, first + 1, 666, -1, i64::MAX] {
        let notify = format!("select pg_notify('datastream_rounds', '{}')", payload(round, 1));
        run(&mut stranger, &notify).await;
    }
    let flood =
        "select pg_notify('datastream_rounds', 'flood ' || n) from generate_series(1, 5000) n";
    run(&mut stranger, flood).await;
    let real = database.finish_many("crash", 20).await;
    assert_eq!(ids(&client.rounds(20).await), real, "each real round once, and nothing else");
    eventually("the notifications to be counted", || async {
        let invalid = server.metric("datastream_notifications_invalid_total").await;
        let unknown = server.metric("datastream_notifications_unknown_total").await;
        (invalid >= 1.0 && unknown >= 3.0).then_some(())
    })
    .await;
    let mut late = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(Some(late.next_round().await.round_id), real.last().copied(), "the seed is real");
    let warnings =
        server.log().iter().filter(|line| line.contains("are not the trigger's")).count();
    assert!(warnings <= 2, "{warnings} lines");
}

/// Each key of the program, as `pg_advisory_lock` takes it.
const KEYS: [&str; 3] = ["7264, 1", "7264, 10", "7264, 11"];

/// The keys that sessions of the stranger hold, or wait for.
async fn taken_keys(database: &TestDatabase) -> usize {
    let taken = "select count(distinct l.objid)::text from pg_locks l join pg_stat_activity a using (pid) \
        where l.locktype = 'advisory' and l.classid = 7264 and a.datname = current_database() \
        and a.usename = current_database() || '_stranger'";
    database.text(taken).await.expect("a count").parse().expect("a number")
}

#[tokio::test]
async fn advisory_keys_that_a_stranger_holds_or_waits_for_stop_no_round() {
    for lock in ["pg_advisory_lock", "pg_advisory_lock_shared"] {
        let (database, server) = serving().await;
        let mut client = WsClient::connect(server.ws("/ws")).await;
        let mut holder = stranger(&database).await;
        run(&mut holder, "set lock_timeout = '100ms'").await;
        for key in KEYS {
            // The lock fails if the server holds the key; then the stranger waits for it below.
            let _ = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("select {lock}({key})")))
                .execute(&mut holder)
                .await;
        }
        let mut waiting = Vec::new();
        for key in KEYS {
            let mut waiter = stranger(&database).await;
            waiting.push(testkit::wait::beside(async move {
                let wait = format!("select pg_advisory_lock({key})");
                let _ = sqlx::raw_sql(sqlx::AssertSqlSafe(wait)).execute(&mut waiter).await;
                std::future::pending::<()>().await;
            }));
        }
        eventually("the stranger to have or want each key", || async {
            (taken_keys(&database).await == KEYS.len()).then_some(())
        })
        .await;
        for _ in 0..20 {
            let round = database.finish("crash", "{}").await;
            assert_eq!(client.next_round().await.round_id, round, "{lock}");
        }
        assert_eq!(taken_keys(&database).await, KEYS.len(), "{lock}: all the while");
        waiting.iter().for_each(|waiting| waiting.abort());
    }
}

#[tokio::test]
async fn a_server_starts_and_resumes_at_least_once_while_a_stranger_holds_presence_and_solo() {
    let database = TestDatabase::new().await;
    let rounds = database.finish_many("crash", 3).await;
    let mut holder = stranger(&database).await;
    run(&mut holder, "select pg_advisory_lock(7264, 10), pg_advisory_lock(7264, 11)").await;
    let server = TestServer::on(database.url()).start().await;
    server.counts("datastream_other_nodes 1").await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={}", rounds[0]))).await;
    let last = database.finish("crash", "{}").await;
    let seen = ids(&client.rounds_until(last).await);
    assert!(rounds[1..].iter().all(|round| seen.contains(round)), "{seen:?}");
    drop(holder);
    server.counts("datastream_other_nodes 0").await;
}

#[tokio::test]
async fn a_round_is_sent_in_the_state_that_its_transaction_committed() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let deleted = "with r as (insert into rounds (game_id, finished_at) select id, now() from games \
        where slug = 'crash' returning id) select id::text from r";
    let mut transaction = database.pool.begin().await.expect("a transaction");
    let id: (String,) = sqlx::query_as(deleted).fetch_one(&mut *transaction).await.expect("a row");
    let delete = format!("delete from rounds where id = {}", id.0);
    run(&mut transaction, &delete).await;
    transaction.commit().await.expect("a commit");
    let mut transaction = database.pool.begin().await.expect("a transaction");
    let id: (String,) = sqlx::query_as(deleted).fetch_one(&mut *transaction).await.expect("a row");
    let update =
        format!("update rounds set extras = '{{\"point\": \"2.00\"}}' where id = {}", id.0);
    run(&mut transaction, &update).await;
    transaction.commit().await.expect("a commit");
    let round = client.next_round().await;
    assert_eq!(round.round_id.to_string(), id.0, "the deleted round is skipped");
    assert_eq!(round.extras, r#"{"point": "2.00"}"#);
    server.counts("datastream_rounds_skipped_total{reason=\"deleted\"} 1").await;
}

#[tokio::test]
async fn a_game_with_a_new_slug_and_type_is_correct_from_its_next_round_on() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws")).await;
    database.run("update games set slug = 'boom', type = 'burst' where slug = 'crash'").await;
    let round = database.finish("boom", "{}").await;
    let next = client.next_round().await;
    assert_eq!((next.round_id, &*next.game_slug, &*next.game_type), (round, "boom", "burst"));
    let mut renamed = WsClient::connect(server.ws("/ws/type/burst")).await;
    assert_eq!(renamed.next_round().await.round_id, round);
    assert_eq!(WsClient::try_connect(&server.ws("/ws/crash"), &[]).await.err(), Some(404));
}

#[tokio::test]
async fn a_paused_server_that_suppresses_notifications_stops_no_round_of_another() {
    let database = TestDatabase::new().await;
    let one = TestServer::on(database.url()).start().await;
    let two = TestServer::on(database.url()).start().await;
    // Both try to take the lock under load; one gets it.
    let one_has_it = eventually("notifications to be suppressed", || async {
        database.finish_many("crash", 300).await;
        let suppresses = async |server: &TestServer| {
            server.metric("datastream_notifications_suppressed").await == 1.0
        };
        if suppresses(&one).await { Some(true) } else { suppresses(&two).await.then_some(false) }
    })
    .await;
    let (paused, other) = if one_has_it { (one, two) } else { (two, one) };
    let mut client = WsClient::connect(other.ws("/ws")).await;
    paused.freeze().await;
    let last = database.finish("crash", "{}").await;
    client.rounds_until(last).await;
    for _ in 0..5 {
        let round = database.finish("crash", "{}").await;
        assert_eq!(client.next_round().await.round_id, round);
    }
    paused.signal("CONT");
}

#[tokio::test]
async fn a_poll_reads_no_more_of_the_outbox_than_the_new_rows() {
    let database = TestDatabase::new().await;
    database
        .run(
            "insert into datastream.outbox (xid, before, attachment, round_id) \
             select '3', '3', 1, n from generate_series(1, 100000) n; analyze datastream.outbox",
        )
        .await;
    let mut session = database.pool.acquire().await.expect("a session");
    // As the LISTEN connection sets them.
    let settings = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; \
        set enable_hashjoin = off; set enable_mergejoin = off; set jit = off";
    run(&mut session, settings).await;
    let prepare = format!("prepare poll(text, bigint) as {}", include_str!("../sql/poll.sql"));
    run(&mut session, &prepare).await;
    let snapshot = database.text("select pg_current_snapshot()::text").await.expect("a snapshot");
    let explain = format!("explain analyze execute poll('{snapshot}', 100)");
    let plan: Vec<(String,)> = sqlx::query_as(sqlx::AssertSqlSafe(explain))
        .fetch_all(&mut *session)
        .await
        .expect("a plan");
    let plan: Vec<String> = plan.into_iter().map(|(line,)| line).collect();
    assert!(!plan.iter().any(|line| line.contains("Rows Removed")), "{}", plan.join("\n"));
    assert!(plan.iter().any(|line| line.contains("outbox_pkey")), "{}", plan.join("\n"));
}

#[tokio::test]
async fn a_migration_of_the_game_keeps_its_locks_and_the_server_its_connection() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    // Longer than a poll waits for a lock; a poll between the two locks must not be a deadlock.
    let migration = "begin; alter table public.games add column colour text; \
        select pg_sleep(1.3); alter table public.rounds add column colour text; \
        select pg_sleep(1.3); commit";
    database.run(migration).await;
    let round = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round);
    server.counts("datastream_listener_connects_total 1").await;
}

#[tokio::test]
async fn a_lock_that_excludes_readers_is_logged_while_rounds_wait() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    // The server polls often for a second after a round.
    let first = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, first);
    let lock = "begin; lock table public.rounds in access exclusive mode; \
        select pg_sleep(0.8); commit";
    database.run(lock).await;
    server.logs("another session locks an attached table").await;
    let second = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, second);
}
