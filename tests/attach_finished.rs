//! When a round of an attached table is finished: conditions, units, voids, and conditions that are
//! refused.

use testkit::{
    TestDatabase, TestServer, WsClient,
    game::{attach, dice, dump, psql, refused},
    get,
};

const BETS: &str = "create type state as enum ('open', 'settled', 'void'); \
    create table bets (id int primary key, status state not null default 'open', \
      updated_at timestamptz not null default now(), deleted_at timestamptz, n int)";
const SETTLED: &str = "status = 'settled' and deleted_at is null";

fn bets<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let own = ["--finished-at", "updated_at", "--extras-columns", "n"];
    let game = ["--slug", "dice", "--type", "chance", "--game-id-value", "77"];
    [&["--table", "bets"], &own[..], &game[..], more].concat()
}

async fn streamed(condition: &str) -> (TestDatabase, TestServer, WsClient) {
    let database = TestDatabase::empty().await;
    database.run(BETS).await;
    attach(&database, &bets(&["--finished-when", condition])).await;
    let server = TestServer::on(database.url()).start().await;
    let client = WsClient::connect(server.ws("/ws/dice")).await;
    (database, server, client)
}

async fn writes(database: &TestDatabase, statement: &str) {
    let output = psql(database, &["-v", "ON_ERROR_STOP=1", "-c", statement]).await;
    assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{statement}");
}

#[tokio::test]
async fn an_open_round_with_a_timestamp_is_not_published_without_the_operator_s_word() {
    let database = TestDatabase::empty().await;
    database.run(BETS).await;
    let before = dump(&database).await;
    let said = refused(&database, &bets(&[])).await;
    assert!(said.contains("column \"updated_at\" is never null"), "{said}");
    assert!(said.contains("--finished-when") && said.contains("--yes"), "{said}");
    assert_eq!(dump(&database).await, before, "nothing was made");
    let output = attach(&database, &bets(&["--yes"])).await;
    assert!(output.stderr.contains("column \"updated_at\" is never null"), "{}", output.stderr);
    database.run("alter table bets alter updated_at drop not null").await;
    let said = refused(&database, &bets(&["--replace", "--time-zone", "UTC"])).await;
    assert!(said.contains("Leave out --time-zone."), "{said}");
}

#[tokio::test]
async fn a_round_is_finished_by_every_kind_of_statement_when_its_condition_becomes_true() {
    let (database, _server, mut client) = streamed(SETTLED).await;
    let merge = "merge into bets b using (values (6)) v(id) on b.id = v.id \
        when matched then update set status = 'settled'";
    let has_merge = "select (current_setting('server_version_num')::integer >= 150000)::text";
    let merge = match database.text(has_merge).await.as_deref() {
        Some("true") => merge,
        _ => "update bets set status = 'settled' where id = 6",
    };
    for (statement, id) in [
        ("insert into bets (id, status) values (1, 'settled'), (2, 'open')", 1),
        ("update bets set status = 'settled' where id = 2", 2),
        (
            "insert into bets (id) values (2), (3) on conflict (id) do update set status = 'settled'; \
          insert into bets (id) values (3) on conflict (id) do update set status = 'settled'",
            3,
        ),
        (
            "insert into bets (id, deleted_at, status) values (4, now(), 'settled'); \
          update bets set deleted_at = null where id = 4",
            4,
        ),
        ("copy bets (id, status) from program 'printf \"5\\tsettled\\n\"'", 5),
        (merge, 6),
    ] {
        if id == 6 {
            writes(&database, "insert into bets (id) values (6)").await;
        }
        writes(&database, statement).await;
        let round = client.next_text().await;
        assert!(round.starts_with(&format!("{{\"round_id\":{id},")), "{statement}: {round}");
    }
}

#[tokio::test]
async fn a_voided_round_leaves_the_lists_and_is_sent_again_if_it_finishes_again() {
    for condition in [SETTLED, "status = 'settled' and (n + 1) / 1 >= 0"] {
        let (database, server, mut client) = streamed(condition).await;
        writes(&database, "insert into bets (id, status, n) values (1, 'settled', 1)").await;
        assert!(client.next_text().await.contains(r#"{\"n\": 1}"#));
        writes(&database, "update bets set n = 2").await;
        writes(&database, "update bets set status = 'void'").await;
        let listed = get(&server.http("/rounds/dice")).await;
        assert_eq!(listed.body, "[]", "{condition}");
        writes(&database, "update bets set status = 'settled', n = 3").await;
        assert!(client.next_text().await.contains(r#"{\"n\": 3}"#), "{condition}");
    }
}

#[tokio::test]
async fn a_condition_that_fails_for_a_row_fails_no_write_and_hides_no_other_round() {
    let (database, server, mut client) = streamed("10 / n > 0").await;
    writes(&database, "insert into bets (id, n) values (1, 0), (2, 5), (3, null)").await;
    assert!(client.next_text().await.starts_with("{\"round_id\":2,"));
    writes(&database, "update bets set n = 0 where id = 3").await;
    writes(&database, "update bets set n = n + 1 where id = 1").await;
    assert!(client.next_text().await.starts_with("{\"round_id\":1,"));
    let listed = get(&server.http("/rounds/dice")).await;
    assert_eq!((listed.status, listed.body.matches("round_id").count()), (200, 2));
}

#[tokio::test]
async fn a_writer_needs_no_right_on_the_functions_of_the_condition() {
    let database = TestDatabase::empty().await;
    let writer = format!("{}_writer", database.name);
    database.run(BETS).await;
    let hidden = format!(
        "create schema hidden; create function hidden.is_over(state) returns boolean immutable language sql as $$ select $1 = 'settled' $$; \
         revoke execute on function hidden.is_over(state) from public; \
         create role {writer}; grant select, insert, update on bets to {writer}"
    );
    database.run(&hidden).await;
    attach(&database, &bets(&["--finished-when", "hidden.is_over(status)"])).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/dice")).await;
    let as_writer = |statement: &str| format!("set role {writer}; {statement}; reset role");
    writes(
        &database,
        &as_writer("insert into bets (id, status) values (1, 'settled'), (2, 'open')"),
    )
    .await;
    assert!(client.next_text().await.starts_with("{\"round_id\":1,"));
    writes(&database, &as_writer("update bets set status = 'settled' where id = 2")).await;
    assert!(client.next_text().await.starts_with("{\"round_id\":2,"));
}

#[tokio::test]
async fn conditions_that_no_trigger_may_run_are_refused() {
    let database = TestDatabase::empty().await;
    let stranger = format!("{}_stranger", database.name);
    database.run(BETS).await;
    let theirs = format!(
        "create role {stranger}; create function theirs(int) returns boolean immutable language sql as 'select true'; \
         alter function theirs(int) owner to {stranger}; create domain odd as int; alter domain odd owner to {stranger}"
    );
    database.run(&theirs).await;
    for (condition, told) in [
        ("updated_at < now()", "must be marked IMMUTABLE"),
        ("exists (select 1)", "cannot use subquery"),
        ("n in (select 1)", "cannot use subquery"),
        ("count(*) > 0", "aggregate functions are not allowed"),
        ("n", "it is not a condition"),
        ("nothing = 1", "column \"nothing\" does not exist"),
        ("n >", "syntax error"),
        ("theirs(n)", "it uses function public.theirs(integer), which belongs to another role"),
        ("n::odd = 1", "it uses type public.odd, which belongs to another role"),
    ] {
        let said = refused(&database, &bets(&["--finished-when", condition])).await;
        assert!(
            said.contains("--finished-when cannot be used") && said.contains(told),
            "{condition}: {said}"
        );
    }
    let said = refused(&database, &bets(&["--finished-when", "length('a') = 1"])).await;
    assert!(said.contains("names no column of the table"), "{said}");
    let left = "select count(*)::text from pg_namespace where nspname = 'datastream'";
    assert_eq!(database.text(left).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn columns_named_like_variables_of_the_trigger_are_no_obstacle() {
    let database = TestDatabase::empty().await;
    let columns = [
        "finished",
        "done",
        "again",
        "body",
        "round",
        "recorded",
        "is_first",
        "attachment",
        "new",
        "old",
        "r",
        "k",
        "number",
    ];
    let made: Vec<String> =
        columns.iter().map(|name| format!("\"{name}\" int default 1")).collect();
    database
        .run(&format!("create table t (id int primary key, at timestamptz, {})", made.join(", ")))
        .await;
    let condition = columns.map(|name| format!("\"{name}\" >= 1")).join(" and ");
    let extras = columns.join(",");
    attach(&database, &dice("t", &["--extras-columns", &extras, "--finished-when", &condition]))
        .await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/dice")).await;
    writes(&database, "insert into t (id, at) values (1, now())").await;
    assert!(client.next_text().await.starts_with("{\"round_id\":1,"));
    writes(&database, "insert into t (id) values (2); update t set at = now() where id = 2").await;
    assert!(client.next_text().await.starts_with("{\"round_id\":2,"));
}

#[tokio::test]
async fn a_condition_that_cannot_fail_is_in_the_index_and_calls_no_function() {
    for (condition, functions) in [
        ("status = 'settled' and deleted_at is null", "0"),
        ("done", "0"),
        ("kind in ('a', 'b') and n > 3", "0"),
        ("case when done then n > 3 else false end", "1"),
        ("6 / n > 1", "1"),
    ] {
        let database = TestDatabase::empty().await;
        let schema = "create type state as enum ('open', 'settled'); \
            create table plays (id int primary key, status state not null default 'open', done bool default false, \
              kind varchar(5), n int, deleted_at timestamptz, at timestamptz)";
        database.run(schema).await;
        let more = ["--finished-when", condition, "--extras-columns", "n", "--index"];
        attach(&database, &dice("plays", &more)).await;
        let made = "select count(*)::text from pg_proc where proname ~ '^settled_[0-9]'";
        assert_eq!(database.text(made).await.as_deref(), Some(functions), "{condition}");
        let index = "select pg_get_expr(indpred, indrelid) from pg_index where indexrelid = 'datastream_latest_1'::regclass";
        let index = database.text(index).await.expect("an index");
        assert_eq!(index == "(at IS NOT NULL)", functions == "1", "{index}");
        let server = TestServer::on(database.url()).start().await;
        let mut client = WsClient::connect(server.ws("/ws/dice")).await;
        database.run("insert into plays (id, n, at) values (1, 0, now())").await;
        let finish = "update plays set status = 'settled', done = true, kind = 'b', n = 5";
        database.run(finish).await;
        let again = "insert into plays (id, status, done, kind, n, at) values (2, 'settled', true, 'a', 5, now())";
        database
            .run(again.replace("5,", if condition.starts_with('6') { "2," } else { "5," }).as_str())
            .await;
        let expected: &[i64] = if condition.starts_with('6') { &[2] } else { &[1, 2] };
        for id in expected {
            assert_eq!(client.next_round().await.round_id, *id, "{condition}");
        }
    }
}
