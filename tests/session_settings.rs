//! Settings of roles and databases: our sessions set what they rely on.

use sqlx::AssertSqlSafe;

use testkit::{
    PgBouncer, SseClient, TestDatabase, TestServer, WsClient,
    binary::{Output, datastream},
    eventually,
    game::{attach, dice, migrated_game},
    get,
};

/// Extras whose text depends on the settings of a session.
const TABLE: &str = "create type pair as (at timestamptz, took interval, raw bytea); \
    create table kinds (id bigint primary key, at timestamptz, zoned timestamptz, \
    ratio float8, took interval, raw bytea, kind regclass, cash money, moments timestamptz[], \
    span tstzrange, raws bytea[], pair pair, single float4, at_time timetz)";
const COLUMNS: [&str; 2] =
    ["--extras-columns", "zoned,ratio,took,raw,kind,cash,moments,span,raws,pair,single,at_time"];
const VALUES: &str = "now(), '2026-01-17 00:45:42.5+00', 0.1::float8 + 0.2::float8, \
    '1 day 02:03:04', '\\x00ff', 'public.kinds', 1234.5::numeric::money, \
    array['2026-01-17 00:45:42.5+00'::timestamptz], \
    tstzrange('2026-01-17 00:45:42.5+00', '2026-02-01 00:00+00'), array['\\x00ff'::bytea], \
    row('2026-01-17 00:45:42.5+00'::timestamptz, make_interval(-1, 2, 0, 3, 4), '\\x00ff'::bytea), \
    0.1, '04:05:06+02'";
/// With PostgreSQL's defaults and UTC.
const TEXT: &str = concat!(
    r#"{"raw": "\\x00ff", "cash": "$1,234.50", "kind": "public.kinds", "#,
    r#""pair": {"at": "2026-01-17T00:45:42.5+00:00", "raw": "\\x00ff", "took": "-10 mons +3 days 04:00:00"}, "#,
    r#""raws": ["\\x00ff"], "span": "[\"2026-01-17 00:45:42.5+00\",\"2026-02-01 00:00:00+00\")", "#,
    r#""took": "1 day 02:03:04", "ratio": 0.30000000000000004, "zoned": "2026-01-17T00:45:42.5+00:00", "#,
    r#""single": 0.1, "at_time": "04:05:06+02", "moments": ["2026-01-17T00:45:42.5+00:00"]}"#,
);
const OTHER: [(&str, &str); 12] = [
    ("TimeZone", "'Asia/Tokyo'"),
    ("DateStyle", "'German, DMY'"),
    ("IntervalStyle", "'iso_8601'"),
    ("extra_float_digits", "-5"),
    ("bytea_output", "'escape'"),
    ("search_path", "datastream, public"),
    ("lc_monetary", "'C.UTF-8'"),
    ("xmlbinary", "'hex'"),
    ("client_encoding", "'LATIN1'"),
    ("plan_cache_mode", "'force_custom_plan'"),
    ("enable_nestloop", "off"),
    ("enable_indexscan", "off"),
];
/// What keeps a session from its work.
const HARMFUL: [(&str, &str); 10] = [
    ("default_transaction_read_only", "on"),
    ("default_transaction_isolation", "'serializable'"),
    ("default_transaction_deferrable", "on"),
    ("standard_conforming_strings", "off"),
    ("escape_string_warning", "off"),
    ("quote_all_identifiers", "on"),
    ("statement_timeout", "'1ms'"),
    ("lock_timeout", "'1ms'"),
    ("idle_in_transaction_session_timeout", "'1ms'"),
    ("row_security", "off"),
];

fn sets(prefix: &str, settings: &[(&str, &str)]) -> String {
    let set = |(name, value): &(&str, &str)| format!("{prefix} set {name} = {value}; ");
    settings.iter().map(set).collect()
}

async fn kinds() -> TestDatabase {
    let database = migrated_game(TABLE).await;
    attach(&database, &dice("kinds", &COLUMNS)).await;
    database
}

/// A writer whose own settings differ too.
async fn insert(database: &TestDatabase, id: i64) {
    let mut writer = database.pool.acquire().await.expect("a connection");
    let insert = format!(
        "begin; {} insert into kinds values ({id}, {VALUES}); commit",
        sets("", &OTHER[..6]).replace(" set ", "set local ")
    );
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut *writer).await.expect("a round");
}

/// The text on each path: live, seed, list, latest, replay after a restart.
async fn texts(database: &TestDatabase, url: &str) -> Vec<String> {
    let server = TestServer::on(url).env("DATASTREAM_HISTORY", "1").start().await;
    let mut live = WsClient::connect(server.ws("/ws/dice")).await;
    for id in 1..=3 {
        insert(database, id).await;
    }
    let mut texts: Vec<_> = live.rounds(3).await.into_iter().map(|round| round.extras).collect();
    drop(server);
    let server = TestServer::on(url).env("DATASTREAM_HISTORY", "1").start().await;
    let (_, seed) = SseClient::connect(&server.http("/sse/dice")).await.next_event().await;
    texts.push(seed.extras);
    let mut resumed = WsClient::connect(server.ws("/ws/dice?after=1")).await;
    let replayed = resumed.rounds_until(3).await;
    texts.extend(replayed.into_iter().map(|round| round.extras));
    let list = get(&server.http("/rounds/dice")).await.json();
    let extras = |round: &serde_json::Value| round["extras"].as_str().expect("text").to_owned();
    texts.extend(list.as_array().expect("a list").iter().map(extras));
    texts.push(extras(&get(&server.http("/rounds/dice/latest")).await.json()));
    texts
}

#[tokio::test]
async fn extras_have_one_text_on_every_path_whatever_the_settings_of_the_database() {
    let database = kinds().await;
    let of_database = format!("alter database {}", database.name);
    database.run(&sets(&of_database, &OTHER)).await;
    let texts = texts(&database, &database.url()).await;
    assert!(texts.len() >= 10, "{texts:?}");
    assert!(texts.iter().all(|text| text == TEXT), "{texts:?}");
}

#[tokio::test]
async fn extras_have_the_same_text_through_a_pooler_that_refuses_settings() {
    let database = kinds().await;
    database.run(&sets(&format!("alter database {}", database.name), &OTHER)).await;
    let Some(pooler) = PgBouncer::before(&database).await else { return };
    let texts = texts(&database, &pooler.url()).await;
    assert!(texts.iter().all(|text| text == TEXT), "{texts:?}");
}

#[tokio::test]
async fn a_role_whose_sessions_become_another_role_is_streamed() {
    let database = TestDatabase::new().await;
    let [login, reader] = ["login", "reader"].map(|name| format!("{}_{name}", database.name));
    let roles = format!(
        "create role {reader} superuser; create role {login} login in role {reader}; \
         alter role {login} set role = {reader}"
    );
    database.run(&roles).await;
    let url = database.url_through(database.address.tcp_port);
    let server = TestServer::on(url.replace("postgres@", &format!("{login}@"))).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    for _ in 0..2 {
        let round = database.finish("crash", "{}").await;
        assert_eq!(client.next_round().await.round_id, round);
        assert_eq!(get(&server.http("/rounds/crash")).await.status, 200);
        database.terminate_server_sessions().await;
    }
}

/// A superuser whose settings keep sessions from their work; its name is that of the database.
async fn hampered(database: &TestDatabase) -> String {
    let role = format!("{}_hampered", database.name);
    database.run(&format!("create role {role} login superuser")).await;
    let later = "do $$ declare n text; begin foreach n in array array['idle_session_timeout', \
        'transaction_timeout'] loop if current_setting(n, true) is not null then execute \
        format('alter role ROLE set %I = ''50ms''', n); end if; end loop; end $$";
    database.run(&sets(&format!("alter role {role}"), &HARMFUL)).await;
    database.run(&later.replace("ROLE", &role)).await;
    let url = database.url_through(database.address.tcp_port);
    url.replace("postgres@", &format!("{role}@"))
}

async fn run(words: &[&str], url: &str) -> Output {
    let output = datastream(words).env("DATABASE_URL", url).run().await;
    assert_eq!(output.code, Some(0), "{words:?}: {}{}", output.stdout, output.stderr);
    output
}

#[tokio::test]
async fn every_command_works_for_a_role_whose_settings_would_keep_it_from_its_work() {
    let database = TestDatabase::empty().await;
    let url = hampered(&database).await;
    run(&["migrate"], &url).await;
    database.run("create table dice (id bigint primary key, at timestamptz, extras jsonb)").await;
    run(&[&["attach"], &dice("dice", &[])[..]].concat(), &url).await;
    let doctor = run(&["doctor"], &url).await.stdout;
    assert!(!doctor.contains("could not run"), "{doctor}");
    run(&["detach", "--table", "dice"], &url).await;
    run(&["migrate", "--revert"], &url).await;
}

#[tokio::test]
async fn a_server_streams_trims_and_reconciles_with_such_a_role() {
    let database = TestDatabase::new().await;
    let url = hampered(&database).await;
    let old = "insert into datastream.outbox (xid, attachment, round_id, at) \
        values ('3', 1, 1, now() - interval '5 days')";
    database.run(old).await;
    let skipped = "set datastream.skip = 'on'; insert into rounds (game_id, finished_at) \
        select id, now() from games where slug = 'crash'";
    database.run(skipped).await;
    let server = TestServer::on(&url).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let round = database.finish("crash", "{}").await;
    client.rounds_until(round).await;
    eventually("trimming and reconciliation", || async {
        let left = "select concat((select count(*) from datastream.outbox where xid = '3'), \
            (select count(*) from datastream.outbox where round_id = 1))";
        (database.text(left).await.as_deref() == Some("01")).then_some(())
    })
    .await;
    // Over 200 rounds a second: the suppressing transaction is idle for longer than its limits.
    database.finish_many("crash", 400).await;
    assert_eq!(server.metric("datastream_listener_connects_total").await, 1.0);
    let log = server.log();
    let bad: Vec<_> = log.iter().filter(|line| line.contains("failed; trying again")).collect();
    assert!(bad.is_empty(), "{bad:?}");
}
