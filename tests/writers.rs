//! The game's writes: they never fail because of the triggers, and each committed round arrives once.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, postgres::PgListener};

use testkit::{
    TestDatabase, TestServer, WsClient, eventually, game::psql, get, round::ids, serving, within,
};

/// The finished rounds of a game, by the table.
async fn committed(database: &TestDatabase, game: &str) -> Vec<i64> {
    let sql = "select r.id from rounds r join games g on g.id = r.game_id \
        where g.slug = $1 and finished_at is not null order by r.id";
    sqlx::query_scalar(sql).bind(game).fetch_all(&database.pool).await.expect("ids")
}

/// One writer: plain inserts, rollbacks, savepoints and rounds finished by UPDATE, by turns.
async fn write(database: TestDatabase, count: usize) {
    let insert = "insert into rounds (game_id, finished_at) \
        select id, now() from games where slug = 'crash'";
    for number in 0..count {
        match number % 5 {
            0 => database.run(&format!("begin; {insert}; rollback")).await,
            1 => {
                let sql = format!("begin; savepoint a; {insert}; rollback to a; {insert}; commit");
                database.run(&sql).await;
            }
            2 => {
                let open = database.open("crash").await;
                database.finish_open(open, "{}").await;
            }
            3 => database.run(&format!("begin; {insert}; savepoint b; {insert}; commit")).await,
            _ => database.run(insert).await,
        }
    }
}

async fn eight_writers(database: TestDatabase) {
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    join_all((0..8).map(|_| write(database.clone(), 50))).await;
    let expected = committed(&database, "crash").await;
    let last = database.finish("double", "{}").await;
    assert!(last > 0);
    let mut received = ids(&client.rounds(expected.len()).await);
    received.sort_unstable();
    assert_eq!(received, expected);
    let next = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, next, "a round arrived twice");
}

#[tokio::test]
async fn eight_writers_with_rollbacks_lose_nothing_and_repeat_nothing() {
    eight_writers(TestDatabase::new().await).await;
}

#[tokio::test]
async fn eight_writers_in_notify_mode_lose_nothing_and_repeat_nothing() {
    eight_writers(TestDatabase::migrated_with(&["--capture", "notify"]).await).await;
}

#[tokio::test]
async fn eight_writers_in_poll_mode_lose_nothing_and_repeat_nothing() {
    eight_writers(TestDatabase::migrated_with(&["--capture", "poll"]).await).await;
}

#[tokio::test]
async fn five_thousand_rows_of_one_insert_arrive_by_id() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database
        .run(
            "insert into rounds (game_id, finished_at, extras) \
             select g.id, now(), jsonb_build_object('n', n) \
             from games g, generate_series(1, 5000) n where slug = 'crash'",
        )
        .await;
    let rounds = ids(&client.rounds(5000).await);
    assert_eq!(rounds, committed(&database, "crash").await);
}

#[tokio::test]
async fn all_rounds_of_copy_and_of_a_bulk_update_arrive() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/slot")).await;
    let game =
        database.text("select id::text from games where slug = 'slot'").await.expect("an id");
    let mut connection = database.pool.acquire().await.expect("a connection");
    let mut copy = connection
        .copy_in_raw("copy rounds (game_id, finished_at) from stdin")
        .await
        .expect("a copy");
    let rows: String = (0..500).map(|_| format!("{game}\t2026-01-17 00:45:42+00\n")).collect();
    copy.send(rows.as_bytes()).await.expect("rows");
    copy.finish().await.expect("the end");
    assert_eq!(client.rounds(500).await.len(), 500);
    database
        .run(
            "insert into rounds (game_id) select g.id from games g, generate_series(1, 300) \
             where slug = 'slot'; update rounds set finished_at = now() where finished_at is null",
        )
        .await;
    let mut all = ids(&client.rounds(300).await);
    all.sort_unstable();
    assert_eq!(all, committed(&database, "slot").await[500..]);
}

#[tokio::test]
async fn rounds_of_one_transaction_arrive_by_id_in_any_order_of_its_statements() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    for n in (1000..1200).step_by(2) {
        let insert = "insert into rounds (id, game_id, finished_at) \
            select $1, id, now() from games where slug = 'crash'";
        let mut both = database.pool.begin().await.expect("a transaction");
        for id in [n + 1, n] {
            sqlx::query(insert).bind(id).execute(&mut *both).await.expect("an insert");
        }
        both.commit().await.expect("a commit");
        assert_eq!(ids(&client.rounds(2).await), [n, n + 1]);
    }
}

#[tokio::test]
async fn a_transaction_that_notifies_late_keeps_the_order_of_its_rounds() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let insert = "insert into rounds (game_id, finished_at) select id, now() from games where slug = 'crash' returning id";
    let update = "update rounds set finished_at = now() where id = $1 returning id";
    for late in ["insert", "update"] {
        // Another session holds the lock when the transaction begins.
        let mut holder = database.pool.begin().await.expect("a transaction");
        sqlx::query("select pg_advisory_xact_lock(7264, 1)")
            .execute(&mut *holder)
            .await
            .expect("the lock");
        let mut game = database.pool.begin().await.expect("a transaction");
        let silent: i64 =
            sqlx::query_scalar(insert).fetch_one(&mut *game).await.expect("an insert");
        let unfinished: i64 = sqlx::query_scalar(
            "insert into rounds (game_id) select id from games where slug = 'crash' returning id",
        )
        .fetch_one(&mut *game)
        .await
        .expect("an insert");
        holder.rollback().await.expect("a rollback");
        let notified: i64 = match late {
            "insert" => sqlx::query_scalar(insert).fetch_one(&mut *game).await.expect("an insert"),
            _ => sqlx::query_scalar(update)
                .bind(unfinished)
                .fetch_one(&mut *game)
                .await
                .expect("an update"),
        };
        game.commit().await.expect("a commit");
        assert_eq!(ids(&client.rounds(2).await), [silent, notified], "the later round by {late}");
    }
}

/// Payloads around PostgreSQL's limit of 8,000 bytes and the trigger's of 7,900, with characters of
/// each width.
async fn payload_sizes(filler: &str) {
    // Only this mode notifies each round: in auto the server suppresses notifications under load.
    let database = TestDatabase::migrated_with(&["--capture", "notify"]).await;
    database.run(include_str!("../sql/sample_games.sql")).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let mut listener = PgListener::connect_with(&database.pool).await.expect("a listener");
    listener.listen("datastream_rounds").await.expect("a channel");
    // The rest of the payload is some 100 bytes: the sweep crosses 7,899 to 8,001 bytes.
    let mut sizes = BTreeSet::new();
    for bytes in 7_700..=8_010 {
        let extras = format!(
            r#"{{"f": "{}{}"}}"#,
            filler.repeat(bytes / filler.len()),
            "x".repeat(bytes % filler.len())
        );
        let id = database.finish("crash", &extras).await;
        let round = client.next_round().await;
        assert_eq!(round.round_id, id);
        assert_eq!(round.extras, extras);
        let notification = within("a notification", listener.recv()).await.expect("a notification");
        sizes.insert(notification.payload().len());
    }
    assert!(sizes.contains(&0), "no payload was too long");
    // The moment in the payload has no trailing zeros: chance makes one payload some bytes shorter.
    assert!(sizes.last().is_some_and(|most| (7_895..=7_900).contains(most)), "{sizes:?}");
}

#[tokio::test]
async fn payloads_around_the_limit_in_one_byte_characters_all_arrive() {
    payload_sizes("x").await;
}

#[tokio::test]
async fn payloads_around_the_limit_in_three_byte_characters_all_arrive() {
    payload_sizes("€").await;
}

#[tokio::test]
async fn a_missing_outbox_causes_a_warning_and_the_insert_succeeds() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let open = database.open("crash").await;
    database.run("alter table datastream.outbox rename to gone").await;
    let insert = "insert into rounds (game_id, finished_at) \
        select id, now() from games where slug = 'crash'";
    let update = format!("update rounds set finished_at = now() where id = {open}");
    for sql in [insert, &update] {
        let output = psql(&database, &["-c", sql]).await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        for expected in ["WARNING:  datastream: ", "of public.rounds", "did not record", "HINT:  "]
        {
            assert!(output.stderr.contains(expected), "{expected} in {}", output.stderr);
        }
    }
    database.run("alter table datastream.gone rename to outbox").await;
    let kept = database.finish("crash", "{}").await;
    // A reconciliation follows each connection.
    database.terminate_server_sessions().await;
    let mut received = ids(&client.rounds(3).await);
    received.sort_unstable();
    assert_eq!(received, [open, open + 1, kept]);
}

#[tokio::test]
async fn an_open_transaction_that_has_notified_blocks_no_other_writer() {
    for mode in ["auto", "poll"] {
        let database = TestDatabase::migrated_with(&["--capture", mode]).await;
        let server = TestServer::on(database.url()).start().await;
        let mut client = WsClient::connect(server.ws("/ws/crash")).await;
        let insert = "insert into rounds (game_id, finished_at) \
            select id, now() from games where slug = 'crash' returning id";
        let mut slow = database.pool.begin().await.expect("a transaction");
        let late: i64 = sqlx::query_scalar(insert).fetch_one(&mut *slow).await.expect("a round");
        // A writer that waits for one of its locks fails.
        let mut other = database.pool.acquire().await.expect("a connection");
        sqlx::raw_sql("set lock_timeout = '1ms'").execute(&mut *other).await.expect("a setting");
        for _ in 0..20 {
            let id: i64 = sqlx::query_scalar(insert).fetch_one(&mut *other).await.expect(mode);
            assert_eq!(client.next_round().await.round_id, id, "{mode}");
        }
        slow.commit().await.expect("a commit");
        assert_eq!(client.next_round().await.round_id, late, "{mode}");
    }
}

#[tokio::test]
async fn a_round_that_the_trigger_could_not_record_is_reconciled_at_the_next_start() {
    let database = TestDatabase::new().await;
    database.run("alter table datastream.outbox rename to gone").await;
    let lost = database.finish("crash", "{}").await;
    database.run("alter table datastream.gone rename to outbox").await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, lost);
    server.counts("datastream_rounds_reconciled_total 1").await;
}

#[tokio::test]
async fn writers_at_every_isolation_level_succeed() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    for level in ["read committed", "repeatable read", "serializable"] {
        let writers = (0..4).map(|_| {
            let database = database.clone();
            async move {
                for _ in 0..10 {
                    let sql = format!(
                        "begin isolation level {level}; \
                         insert into rounds (game_id, finished_at) values (1, now()); commit"
                    );
                    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&database.pool).await.expect(level);
                }
            }
        });
        join_all(writers).await;
    }
    let slug = database.text("select slug from games where id = 1").await;
    assert_eq!(slug.as_deref(), Some("crash"));
    assert_eq!(client.rounds(120).await.len(), 120);
}

#[tokio::test]
async fn a_game_role_without_any_right_on_our_schema_can_write() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let role = format!("game_{}", database.name);
    database
        .run(&format!(
            "create role {role}; grant select, insert, update on rounds to {role}; \
             grant select on games to {role}"
        ))
        .await;
    database
        .run(&format!(
            "begin; set local role {role}; \
             insert into rounds (game_id, finished_at) values (1, now()); commit"
        ))
        .await;
    assert_eq!(client.next_round().await.game_id, 1);
}

#[tokio::test]
async fn prepared_transactions_work_in_poll_mode() {
    let cluster = testkit::DedicatedCluster::start_with(&[("max_prepared_transactions", "5")]);
    let database = TestDatabase::on(&cluster.address()).await;
    let migrate = testkit::binary::datastream(&["migrate", "--capture", "poll"]);
    let output = migrate.env("DATABASE_URL", database.url()).run().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let insert = "insert into rounds (id, game_id, finished_at) values";
    database.run(&format!("begin; {insert} (901, 1, now()); prepare transaction 'late'")).await;
    let early = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, early);
    database.run("commit prepared 'late'").await;
    assert_eq!(client.next_round().await.round_id, 901);
}

#[tokio::test]
async fn the_trigger_skips_an_import_with_datastream_skip() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database
        .run(
            "begin; set local datastream.skip = 'on'; \
             insert into rounds (game_id, finished_at) \
             select 1, '2020-01-01' from generate_series(1, 100); commit",
        )
        .await;
    let live = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, live);
}

#[tokio::test]
async fn a_frozen_server_does_not_block_the_writers() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    server.freeze().await;
    let rounds = within("the inserts", database.finish_many("crash", 200)).await;
    server.signal("CONT");
    assert_eq!(ids(&client.rounds(200).await), rounds);
}

#[tokio::test]
async fn a_round_deleted_before_it_is_read_is_counted() {
    let database = TestDatabase::migrated_with(&["--capture", "poll"]).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    server.freeze().await;
    database.finish("crash", "{}").await;
    database.run("delete from rounds").await;
    server.signal("CONT");
    let live = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, live);
    let metrics = get(&server.http("/metrics")).await.body;
    assert!(
        metrics.contains(r#"datastream_rounds_skipped_total{reason="deleted"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_server_follows_a_changed_capture_mode_without_a_restart() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    for (mode, expected) in [("poll", "notifies=false"), ("auto", "notifies=true")] {
        let migrate = testkit::binary::datastream(&["migrate", "--capture", mode]);
        assert_eq!(migrate.env("DATABASE_URL", database.url()).run().await.code, Some(0));
        eventually(format!("`{expected}` in the log"), || async {
            server.log().iter().any(|line| line.contains(expected)).then_some(())
        })
        .await;
        let round = database.finish("crash", "{}").await;
        assert_eq!(client.next_round().await.round_id, round);
    }
}
