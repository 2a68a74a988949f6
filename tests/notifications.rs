//! The triggers: what a notification carries, which session may send one, and what a write costs.

use serde_json::Value;
use sqlx::postgres::PgListener;

use testkit::{DedicatedCluster, TestDatabase, binary::datastream, game::psql, within};

const MODES: [&str; 3] = ["auto", "notify", "poll"];

/// A connection that listens on the channel.
async fn listening(database: &TestDatabase) -> PgListener {
    let mut listener = PgListener::connect_with(&database.pool).await.expect("a listener");
    listener.listen("datastream_rounds").await.expect("a channel");
    listener
}

/// The payloads that came since the last call. A last notification, of the test's own, ends them.
async fn received(database: &TestDatabase, listener: &mut PgListener) -> Vec<String> {
    database.run("select pg_notify('datastream_rounds', 'end')").await;
    let mut payloads = Vec::new();
    loop {
        let notification = within("a notification", listener.recv()).await.expect("a notification");
        match notification.payload() {
            "end" => return payloads,
            payload => payloads.push(payload.to_owned()),
        }
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What the payload of a round must be, by the table.
async fn described(database: &TestDatabase, id: i64) -> Value {
    let sql = format!(
        "select jsonb_build_object('round_id', id, 'game_id', game_id, 'finished_at', finished_at, \
         'extras', extras)::text from rounds where id = {id}"
    );
    json(&database.text(&sql).await.expect("a round"))
}

async fn finish_both_ways(database: &TestDatabase) -> [i64; 2] {
    let open = database.open("crash").await;
    let inserted = database.finish("crash", r#"{"point": "11.72", "n": [1, null]}"#).await;
    database.finish_open(open, r#"{"text": "ä\n"}"#).await;
    [inserted, open]
}

#[tokio::test]
async fn a_notification_carries_what_the_row_holds_and_nothing_else() {
    for mode in ["auto", "notify"] {
        let database = TestDatabase::migrated_with(&["--capture", mode]).await;
        let mut listener = listening(&database).await;
        let rounds = finish_both_ways(&database).await;
        let payloads = received(&database, &mut listener).await;
        assert_eq!(payloads.len(), 2, "{mode}: {payloads:?}");
        for (payload, round) in payloads.iter().zip(rounds) {
            assert_eq!(json(payload), described(&database, round).await, "{mode}");
        }
    }
}

#[tokio::test]
async fn only_notify_notifies_while_another_session_holds_the_lock() {
    for (mode, expected) in [("auto", 0), ("notify", 2), ("poll", 0)] {
        let database = TestDatabase::migrated_with(&["--capture", mode]).await;
        let mut listener = listening(&database).await;
        let mut server = database.pool.begin().await.expect("a transaction");
        let lock = sqlx::query("select pg_advisory_xact_lock(7264, 1)");
        lock.execute(&mut *server).await.expect("the lock");
        finish_both_ways(&database).await;
        assert_eq!(received(&database, &mut listener).await.len(), expected, "{mode}");
        server.rollback().await.expect("a rollback");
        finish_both_ways(&database).await;
        let free = if mode == "poll" { 0 } else { 2 };
        assert_eq!(received(&database, &mut listener).await.len(), free, "{mode}");
        let recorded = database.text("select count(*)::text from datastream.outbox").await;
        assert_eq!(recorded.as_deref(), Some("4"), "{mode}");
    }
}

#[tokio::test]
async fn many_rounds_of_a_statement_are_one_notification_in_auto_and_one_each_in_notify() {
    for (mode, inserted, updated) in [("auto", vec![""], 1), ("notify", vec!["{"; 3], 3)] {
        let database = TestDatabase::migrated_with(&["--capture", mode]).await;
        let mut listener = listening(&database).await;
        let insert =
            "insert into rounds (game_id, finished_at) select 1, now() from generate_series(1, 3)";
        database.run(insert).await;
        let payloads = received(&database, &mut listener).await;
        let starts: Vec<&str> = payloads.iter().map(|text| text.get(..1).unwrap_or("")).collect();
        assert_eq!(starts, inserted, "{mode}");
        database.run("insert into rounds (game_id) select 1 from generate_series(1, 3)").await;
        database.run("update rounds set finished_at = now() where finished_at is null").await;
        assert_eq!(received(&database, &mut listener).await.len(), updated, "{mode}");
    }
}

#[tokio::test]
async fn a_rolled_back_savepoint_takes_its_notification_with_it_and_the_next_round_has_its_own() {
    for mode in ["auto", "notify"] {
        let database = TestDatabase::migrated_with(&["--capture", mode]).await;
        let mut listener = listening(&database).await;
        let (undone, kept) = (database.open("crash").await, database.open("crash").await);
        let finish = "update rounds set finished_at = now() where id =";
        database
            .run(&format!(
                "begin; savepoint a; {finish} {undone}; rollback to a; {finish} {kept}; commit"
            ))
            .await;
        let payloads = received(&database, &mut listener).await;
        assert_eq!(payloads.len(), 1, "{mode}: {payloads:?}");
        assert_eq!(json(&payloads[0]), described(&database, kept).await, "{mode}");
    }
}

/// A table with extras of this type, attached; the game is the same for all its rounds.
async fn attached(extras: &str, mode: &str) -> TestDatabase {
    let database = TestDatabase::empty().await;
    database
        .run(&format!(
            "create table plays (id int primary key, finished_at timestamp, extras {extras})"
        ))
        .await;
    let words = "attach --table plays --slug crash --type multiplier --game-id-value 7 --capture";
    let words: Vec<&str> = words.split(' ').chain([mode]).collect();
    let output = datastream(&words).env("DATABASE_URL", database.url()).run().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    database
}

#[tokio::test]
async fn extras_that_are_no_jsonb_are_sent_as_they_stand() {
    let huge = format!("[1{}]", "0".repeat(140_000));
    let cases = [
        ("json", r#"{"a": "\u0000", "b": 1e999999}"#, Some(r#"{"a": "\u0000", "b": 1e999999}"#)),
        ("json", "{\n\"a\":  1}", Some("{\n\"a\":  1}")),
        ("json", &huge, None),
        ("text", "no \"json\" \\ at all", Some(r#""no \"json\" \\ at all""#)),
        ("varchar", "{}", Some(r#""{}""#)),
        ("text", &huge, None),
        ("jsonb", &format!("[{}1]", "1, ".repeat(2_600)), Some("[1, 1")),
        ("jsonb", &format!("[{}1]", "1, ".repeat(20_000)), None),
    ];
    for mode in ["auto", "notify"] {
        for (extras, value, sent) in &cases {
            let database = attached(extras, mode).await;
            let mut listener = listening(&database).await;
            for finish in [
                "insert into plays values (1, '2026-01-17 00:45:42.5', $$VALUE$$)",
                "insert into plays values (2, null, $$VALUE$$); \
                 update plays set finished_at = '2026-01-17 00:45:42.5' where id = 2",
            ] {
                let finish = finish.replace("VALUE", value);
                database.run(&finish).await;
            }
            let payloads = received(&database, &mut listener).await;
            assert_eq!(payloads.len(), 2, "{extras} {mode}");
            for (payload, id) in payloads.iter().zip(1..) {
                let start = format!(
                    r#"{{"round_id":{id},"game_id":7,"finished_at":"2026-01-17T00:45:42.5+00:00","extras":"#
                );
                match sent {
                    Some(sent) => assert!(
                        payload.starts_with(&format!("{start}{sent}")) && payload.ends_with('}'),
                        "{extras} {mode}: {payload}"
                    ),
                    None => assert_eq!(payload, "", "{extras} {mode}"),
                }
            }
            let recorded = database.text("select count(*)::text from datastream.outbox").await;
            assert_eq!(recorded.as_deref(), Some("2"), "{extras} {mode}");
        }
    }
}

#[tokio::test]
async fn columns_that_are_called_like_the_triggers_variables_are_read() {
    for mode in MODES {
        let database = TestDatabase::empty().await;
        database
            .run(
                "create table plays (round int primary key, finished timestamptz, recorded int, \
                 again int, body text, done text, is_first bool, r int, new_rounds int)",
            )
            .await;
        let words = "attach --table plays --id round --finished-at finished --slug crash --type multiplier \
            --game-id-value 7 --extras-columns recorded,again,body,done,is_first,r,new_rounds --capture";
        let words: Vec<&str> = words.split_whitespace().chain([mode]).collect();
        let output = datastream(&words).env("DATABASE_URL", database.url()).run().await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        let mut listener = listening(&database).await;
        let sql = "insert into plays (round, finished, body) values (1, now(), 'b'), (2, null, 'b'); \
            update plays set finished = now() where round = 2";
        let output = psql(&database, &["-c", sql]).await;
        assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{mode}");
        let expected = if mode == "poll" { 0 } else { 2 };
        let payloads = received(&database, &mut listener).await;
        assert_eq!(payloads.len(), expected, "{mode}");
        for payload in payloads {
            assert_eq!(json(&payload)["extras"]["body"], "b");
        }
        let recorded = database.text("select count(*)::text from datastream.outbox").await;
        assert_eq!(recorded.as_deref(), Some("2"), "{mode}");
    }
}

#[tokio::test]
async fn the_triggers_read_no_table_and_wait_for_none() {
    for mode in MODES {
        let database = attached("jsonb", mode).await;
        // All of our schema but the outbox, and all else that is called `new_rounds`.
        database.run("create table new_rounds (id int, finished_at timestamp)").await;
        let mut other = database.pool.begin().await.expect("a transaction");
        let lock = "do $$ declare name text; begin \
            for name in select c.oid::regclass::text from pg_class c where c.relkind = 'r' \
              and (c.relnamespace = 'datastream'::regnamespace and c.relname <> 'outbox' or c.relname = 'new_rounds') \
            loop execute 'lock table ' || name || ' in access exclusive mode'; end loop; end $$";
        sqlx::raw_sql(lock).execute(&mut *other).await.expect("the locks");
        for level in ["read committed", "repeatable read", "serializable"] {
            let sql = format!(
                "begin isolation level {level}; set local lock_timeout = '1ms'; \
                 insert into plays values (1, now()), (2, null); \
                 update plays set finished_at = now() where id = 2; commit; delete from plays"
            );
            let output = psql(&database, &["-c", &sql]).await;
            assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{mode} {level}");
        }
        let recorded = database.text("select count(*)::text from datastream.outbox").await;
        assert_eq!(recorded.as_deref(), Some("6"), "{mode}");
    }
}

#[tokio::test]
async fn a_statement_of_ten_thousand_rows_takes_less_than_ten_transaction_ids() {
    // Of its own: other tests take transaction ids, too.
    let cluster = DedicatedCluster::start_with(&[("autovacuum", "off")]);
    for mode in MODES {
        let database = TestDatabase::on(&cluster.address()).await;
        let migrate = datastream(&["migrate", "--capture", mode]);
        assert_eq!(migrate.env("DATABASE_URL", database.url()).run().await.code, Some(0));
        let next = async || -> u64 {
            let text = database.text("select pg_current_xact_id()::text").await;
            text.expect("a transaction id").parse().expect("a number")
        };
        let rows = "from games, generate_series(1, 10000) where slug = 'crash'";
        for (statement, finishes) in [
            (format!("insert into rounds (game_id, finished_at) select id, now() {rows}"), true),
            (format!("insert into rounds (game_id) select id {rows}"), false),
            ("update rounds set finished_at = now() where finished_at is null".to_owned(), true),
        ] {
            let before = next().await;
            database.run(&statement).await;
            let taken = next().await - before - 1;
            assert!(taken < 10, "{mode}: {statement} took {taken}");
            assert!(taken > 1 || !finishes, "{mode}: {statement} took {taken}");
        }
        let recorded = database.text("select count(*)::text from datastream.outbox").await;
        assert_eq!(recorded.as_deref(), Some("20000"), "{mode}");
    }
}
