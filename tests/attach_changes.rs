//! Migrations of the game that change what an attached table is made of: columns that we read, tables
//! that are renamed or replaced, and databases without our schema.

use testkit::{
    TestDatabase, TestServer, WsClient, eventually,
    game::{attach, psql, run},
};

const GAME: &str = "create type state as enum ('open', 'settled'); \
    create table titles (id bigint primary key, slug varchar(64) unique, name text, kind text); \
    insert into titles values (1, 'crash', 'Crash', 'multiplier'); \
    create table plays (id bigserial primary key, game_id bigint references titles, \
      status state not null default 'open', finished_at timestamptz, extras jsonb)";

const ATTACH: [&str; 9] = [
    "--table",
    "plays",
    "--games",
    "titles",
    "--games-type",
    "kind",
    "--finished-when",
    "status = 'settled'",
    "--index",
];

/// The guard that lets a migration run on a database without our schema.
fn guarded(call: &str) -> String {
    format!(
        "do $$ begin if to_regprocedure('datastream.before_change(text)') is not null then \
           perform datastream.{call}; end if; end $$"
    )
}

/// The statements of a migration, in one transaction and with the two calls.
fn migration(table: &str, change: &str, after: &str) -> String {
    let before = guarded(&format!("before_change('{table}')"));
    format!("begin; {before}; {change}; {}; commit", guarded(&format!("after_change({after})")))
}

async fn attached() -> TestDatabase {
    let database = TestDatabase::empty().await;
    database.run(GAME).await;
    attach(&database, &ATTACH).await;
    database
}

/// A server on a game with a finished round, and a client that got it.
async fn streamed() -> (TestDatabase, TestServer, WsClient) {
    let database = attached().await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    play(&database, &mut client, PLAY, 1).await;
    (database, server, client)
}

const PLAY: &str =
    "insert into plays (game_id, status, finished_at) values (1, 'settled', now()) returning id";

/// Runs a statement that finishes round `id`, which is what the client gets next.
async fn play(database: &TestDatabase, client: &mut WsClient, sql: &str, id: i64) {
    database.run(sql).await;
    assert_eq!(client.next_round().await.round_id, id, "{sql}");
}

async fn is_well(database: &TestDatabase) {
    let doctor = run(database, "doctor", &[]).await;
    assert_eq!(doctor.code, Some(0), "{}", doctor.stdout);
    let index = "select count(*)::text from pg_indexes where indexname = 'datastream_latest_1'";
    assert_eq!(database.text(index).await.as_deref(), Some("1"));
    let open = "select count(*)::text from datastream.changing";
    assert_eq!(database.text(open).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn columns_that_we_read_get_other_types_while_clients_stay() {
    let (database, _server, mut client) = streamed().await;
    let swapped = "create type later as enum ('open', 'settled', 'void'); \
        alter table plays alter status drop default, \
          alter status type later using status::text::later, alter status set default 'open'; \
        drop type state; alter type later rename to state";
    let text = r#", '{"finished_when": "status = ''settled''"}'"#;
    let number = r#", '{"finished_when": "status = 2"}'"#;
    let changes = [
        (
            "plays",
            "alter table plays alter finished_at type timestamp using timezone('UTC', finished_at)",
            "",
        ),
        (
            "plays",
            "alter table plays alter finished_at type timestamptz using timezone('UTC', finished_at)",
            "",
        ),
        ("plays", "alter table plays alter extras type json using extras::json", ""),
        ("plays", "alter table plays alter id type integer", ""),
        ("plays", swapped, ""),
        (
            "titles",
            "alter table titles alter slug type varchar(80), alter kind type varchar(20)",
            "",
        ),
        (
            "plays",
            "alter table plays alter status drop default, alter status type text using status::text",
            text,
        ),
        ("public.plays", "alter table plays alter status type varchar(20)", ""),
        // PostgreSQL cannot compare the number with the text of the index's condition.
        (
            "plays",
            "drop index datastream_latest_1; alter table plays alter status type integer using 2",
            number,
        ),
    ];
    for ((table, change, options), id) in changes.into_iter().zip(2..) {
        let refused = psql(&database, &["-v", "ON_ERROR_STOP=1", "-c", change]).await;
        assert!(refused.stderr.contains("cannot alter type of a column used"), "{refused:?}");
        database.run(&migration(table, change, &format!("'{table}'{options}"))).await;
        is_well(&database).await;
        let status = if options == number { "2" } else { "'settled'" };
        play(&database, &mut client, &PLAY.replace("'settled'", status), id).await;
    }
}

#[tokio::test]
async fn columns_and_tables_are_renamed_with_the_options_that_changed() {
    let (database, server, mut client) = streamed().await;
    let rename = "alter table plays rename finished_at to ended_at";
    let options = r#"'plays', '{"finished_at": "ended_at"}'"#;
    database.run(&migration("plays", rename, options)).await;
    let insert = PLAY.replace("finished_at", "ended_at");
    play(&database, &mut client, &insert, 2).await;
    database.run(&migration("plays", "alter table plays rename to spins", "'spins'")).await;
    let insert = insert.replace("plays", "spins");
    play(&database, &mut client, &insert, 3).await;
    database.run(&migration("titles", "alter table titles rename to games", "'games'")).await;
    play(&database, &mut client, &insert, 4).await;
    is_well(&database).await;
    let value = "alter type state rename value 'settled' to 'done'";
    let options = r#"'spins', '{"finished_when": "status = ''done''"}'"#;
    database.run(&migration("spins", value, options)).await;
    play(&database, &mut client, &insert.replace("settled", "done"), 5).await;
    is_well(&database).await;
    // What finished before the changes is still read.
    let rounds = testkit::get(&server.http("/rounds/crash")).await.body;
    assert_eq!(rounds.matches("\"round_id\"").count(), 5, "{rounds}");
}

#[tokio::test]
async fn a_table_is_replaced_by_a_copy() {
    let (database, _server, mut client) = streamed().await;
    let copy = "create table copy (like plays including all excluding indexes, primary key (id)); \
        insert into copy select * from plays; alter sequence plays_id_seq owned by copy.id; \
        drop table plays; alter table copy rename to plays";
    database.run(&migration("plays", copy, "'plays'")).await;
    is_well(&database).await;
    play(&database, &mut client, PLAY, 2).await;
    // So do tools that keep the old table.
    let swap = "alter table plays rename to old; create table plays (like old including defaults, primary key (id)); \
        insert into plays select * from old";
    database.run(&migration("plays", swap, "'plays'")).await;
    is_well(&database).await;
    play(&database, &mut client, PLAY, 3).await;
    let ours = "select count(*)::text from pg_trigger where tgrelid = 'old'::regclass";
    assert_eq!(database.text(ours).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_change_that_our_options_do_not_fit_is_undone_with_its_reason() {
    let (database, _server, mut client) = streamed().await;
    let drop = migration("plays", "alter table plays drop finished_at", "'plays'");
    let output = psql(&database, &["-v", "ON_ERROR_STOP=1", "-c", &drop]).await;
    for told in [
        "cannot attach public.plays again: column \"finished_at\" does not exist (columns: id, game_id, status, extras)",
        "select datastream.after_change('public.plays', '{\"finished_at\": \"ended_at\"}')",
    ] {
        assert!(output.stderr.contains(told), "{}", output.stderr);
    }
    is_well(&database).await;
    play(&database, &mut client, PLAY, 2).await;
}

#[tokio::test]
async fn a_migration_with_our_calls_runs_where_nothing_is_attached() {
    let change = "alter table plays alter finished_at type timestamp";
    let without_schema = TestDatabase::empty().await;
    without_schema.run(GAME).await;
    without_schema.run(&migration("plays", change, "'plays'")).await;
    let not_attached = TestDatabase::empty().await;
    not_attached.run(GAME).await;
    assert_eq!(run(&not_attached, "migrate", &["--no-tables"]).await.code, Some(0));
    not_attached.run(&migration("plays", change, "'plays'")).await;
    let typo = psql(&not_attached, &["-c", "select datastream.before_change('plaz')"]).await;
    assert!(typo.stderr.contains("table plaz does not exist"), "{}", typo.stderr);
}

#[tokio::test]
async fn a_change_that_was_begun_only_is_found_by_doctor_and_ended_by_attach() {
    let database = attached().await;
    database.run("alter table plays enable always trigger datastream_updated").await;
    database.run("select datastream.before_change('plays')").await;
    let doctor = run(&database, "doctor", &[]).await;
    assert_eq!(doctor.code, Some(1), "{}", doctor.stdout);
    assert!(
        doctor.stdout.contains("datastream attach --table 'public.plays'"),
        "{}",
        doctor.stdout
    );
    attach(&database, &ATTACH).await;
    assert_eq!(run(&database, "doctor", &[]).await.code, Some(0));
    database.run("select datastream.after_change('plays')").await;
    is_well(&database).await;
    let always =
        "select count(*)::text from pg_trigger where tgname ~ '^datastream' and tgenabled = 'A'";
    assert_eq!(database.text(always).await.as_deref(), Some("2"));
}

#[tokio::test]
async fn rounds_that_finish_between_the_two_calls_are_sent_after_the_second() {
    let (database, server, mut client) = streamed().await;
    database.run("select datastream.before_change('plays')").await;
    database.run(&PLAY.replace(" returning id", "")).await;
    database.run("alter table plays alter extras type json using extras::json").await;
    database.run("select datastream.after_change('plays')").await;
    play(&database, &mut client, PLAY, 3).await;
    // Reconciliation runs at the start, and each minute.
    drop(server);
    let server = TestServer::on(database.url()).start().await;
    let mut resumed = WsClient::connect(server.ws("/ws/crash?after=1")).await;
    let mut ids = [resumed.next_round().await.round_id, resumed.next_round().await.round_id];
    ids.sort_unstable();
    assert_eq!(ids, [2, 3]);
}

#[tokio::test]
async fn the_index_of_a_large_table_is_built_after_the_migration_if_it_says_so() {
    let database = attached().await;
    let off = "set local datastream.index = 'off'; \
        alter table plays alter status drop default, alter status type integer using 2";
    let options = r#"'plays', '{"finished_when": "status = 2"}'"#;
    database.run(&migration("plays", off, options)).await;
    let index = "select count(*)::text from pg_indexes where indexname = 'datastream_latest_1'";
    assert_eq!(database.text(index).await.as_deref(), Some("0"));
    let again = ATTACH.map(|word| if word == "status = 'settled'" { "status = 2" } else { word });
    attach(&database, &again).await;
    is_well(&database).await;
}

#[tokio::test]
async fn the_detached_schema_is_as_before_after_a_change() {
    let database = attached().await;
    let change = "alter table plays alter finished_at type timestamp";
    database.run(&migration("plays", change, "'plays'")).await;
    assert_eq!(run(&database, "detach", &["--table", "plays"]).await.code, Some(0));
    database.run("drop schema datastream cascade").await;
    let expected = TestDatabase::empty().await;
    expected.run(GAME).await;
    expected.run(change).await;
    assert_eq!(testkit::game::dump(&database).await, testkit::game::dump(&expected).await);
}

#[tokio::test]
async fn a_round_is_not_lost_if_a_value_of_the_condition_s_enum_is_renamed() {
    let database = attached().await;
    let rename =
        "alter type state rename value 'settled' to 'done'; alter type state rename to stage";
    database.run(rename).await;
    let insert = PLAY.replace("settled", "done");
    let output = psql(&database, &["-c", &insert]).await;
    assert!(output.stderr.contains("did not record finished rounds"), "{}", output.stderr);
    // The triggers and the view follow the name, so that reconciliation finds the round.
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash?seed=none")).await;
    let recorded = "select count(*)::text from datastream.outbox where round_id = 1";
    eventually("reconciliation", || async {
        (database.text(recorded).await.as_deref() == Some("1")).then_some(())
    })
    .await;
    database.run("insert into plays (game_id, finished_at) values (1, now())").await;
    database.run("update plays set status = 'done' where id = 2").await;
    let first = client.next_round().await.round_id;
    if first != 2 {
        assert_eq!((first, client.next_round().await.round_id), (1, 2));
    }
    let list = testkit::get(&server.http("/rounds/crash")).await.body;
    assert!(list.contains("\"round_id\":1,"), "{list}");
}
