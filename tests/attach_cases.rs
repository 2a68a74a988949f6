//! `datastream attach` on unusual tables and with wrong options, and its `--dry-run` with psql alone.

use testkit::{
    TestDatabase, TestServer, WsClient,
    binary::program,
    cluster::installation,
    game::{GAME, attach, contract, dump, migrated_game, psql, refused, run},
};

#[tokio::test]
async fn attach_refuses_and_names_columns_of_unsupported_types() {
    let database = migrated_game(
        "create table odd (key uuid, number real, word text, day date, at time, ok timestamptz, \
           id bigint primary key, game_id bytea, extras bytea); \
         create table titles (id text, slug text, name text, type text)",
    )
    .await;
    let games = ["--slug", "one", "--type", "kind", "--game-id-value", "1"];
    for (id, finished_at, told) in [
        (
            "number",
            "ok",
            "column \"number\" is of type real. Pass a column of type smallint, integer",
        ),
        ("at", "ok", "column \"at\" is of type time without time zone."),
        ("key", "ok", "column \"key\" may be null"),
        ("key", "ok", "no unique index covers \"key\""),
        ("key", "ok", "Pass --id id."),
        ("word,key", "ok", "no unique index covers \"word\", \"key\""),
        (
            "id",
            "at",
            "column \"at\" is of type time without time zone. Pass a column of type timestamp",
        ),
        ("id", "ok", "column \"extras\" is of type bytea. Pass a column of type jsonb"),
        (
            "nil",
            "ok",
            "column \"nil\" does not exist (columns: key, number, word, day, at, ok, id,",
        ),
        ("nil", "nul", "Pass one of them as --finished-at."),
    ] {
        let named = ["--table", "odd", "--id", id, "--finished-at", finished_at];
        let said = refused(&database, &[&named[..], &games].concat()).await;
        assert!(said.contains(told), "{told} in {said}");
    }
    let rest = ["--table", "odd", "--finished-at", "ok", "--extras-columns", "word"];
    let said = refused(&database, &[&rest[..], &["--games", "titles"]].concat()).await;
    assert!(said.contains("column \"game_id\" is of type bytea. Pass a column of type"), "{said}");
    database.run("alter table odd drop game_id, add game_id int").await;
    let said = refused(&database, &[&rest[..], &["--games", "titles"]].concat()).await;
    let told = "\"game_id\" is of type integer, and \"id\" of public.titles is of type text";
    assert!(said.contains(told), "{said}");
    let said = refused(&database, &[&rest[..], &["--games", "nowhere"]].concat()).await;
    assert!(said.contains("nowhere"), "{said}");
    let zone = ["--time-zone", "Atlantis/Center"];
    database.run("alter table odd add plain timestamp").await;
    let plain = ["--table", "odd", "--finished-at", "plain", "--extras-columns", "word"];
    let said = refused(&database, &[&plain[..], &games, &zone].concat()).await;
    assert!(said.contains("Atlantis/Center"), "{said}");
    let left = "select count(*)::text from pg_trigger where tgname like 'datastream%' \
        and tgrelid = 'odd'::regclass";
    assert_eq!(database.text(left).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn attach_reports_ids_above_the_exact_range_of_javascript_and_streams_them() {
    let database = migrated_game("create table big (id bigint primary key, at timestamptz)").await;
    database.run("insert into big values (9007199254740993, now())").await;
    let args = ["--table", "big", "--finished-at", "at", "--extras-columns", "id", "--slug", "one"];
    let more = ["--type", "kind", "--game-id-value", "1"];
    let output = attach(&database, &[&args[..], &more].concat()).await;
    assert!(output.stderr.contains("above 2^53"), "{}", output.stderr);
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/one")).await;
    assert_eq!(client.next_round().await.round_id, 9_007_199_254_740_993);
}

#[tokio::test]
async fn attach_reports_a_game_id_that_two_tables_share() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&[])).await;
    database
        .run(
            "create table other_titles (id int primary key, slug text, name text, type text); \
             insert into other_titles values (2, 'dice', 'Dice', 'chance'); \
             create table other (id int primary key, game_id int, finished_at timestamptz, extras json)",
        )
        .await;
    let output = attach(&database, &["--table", "other", "--games", "other_titles"]).await;
    assert!(output.stderr.contains("have the same id 2"), "{}", output.stderr);
    let doctor = run(&database, "doctor", &[]).await;
    assert_eq!(doctor.code, Some(1), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("have the id 2"), "{}", doctor.stdout);
    database.run("update other_titles set id = 1002").await;
    let doctor = run(&database, "doctor", &[]).await;
    assert_eq!(doctor.code, Some(0), "{}", doctor.stdout);
}

#[tokio::test]
async fn replaced_options_apply_from_the_next_round_on() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&[])).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let insert = "insert into game.results (title_id, ended_at, payload, stake, note) \
        values (1, '2026-07-01 12:00', '{\"a\":1}', 2.50, 'n')";
    database.run(insert).await;
    let round = client.next_round().await;
    assert_eq!((&*round.extras, &*round.finished_at), ("{\"a\": 1}", "2026-07-01T12:00:00Z"));
    let columns: Vec<&str> = contract(&[])
        .into_iter()
        .filter(|word| !matches!(*word, "--extras" | "payload"))
        .chain(["--extras-columns", "stake,note", "--time-zone", "Asia/Kolkata"])
        .collect();
    let said = refused(&database, &columns).await;
    assert!(said.contains("--replace"), "{said}");
    attach(&database, &[&columns[..], &["--replace"]].concat()).await;
    // In any time zone of the writing session.
    database.run(&format!("set timezone = 'America/New_York'; {insert}; reset timezone")).await;
    let round = client.next_round().await;
    assert_eq!(round.extras, r#"{"note": "n", "stake": 2.50}"#);
    assert_eq!(round.finished_at, "2026-07-01T06:30:00Z");
}

#[tokio::test]
async fn rounds_under_row_security_are_streamed_and_its_policies_still_apply_to_the_game() {
    let database = migrated_game(GAME).await;
    let role = format!("{}_tenant", database.name);
    database
        .run(&format!(
            "create role {role}; grant usage on schema game to {role}; \
             grant select, insert on game.results to {role}; grant insert on game.audit to {role}; \
             alter table game.results enable row level security; \
             create policy own on game.results for all to {role} using (title_id = 1) with check (title_id = 1)"
        ))
        .await;
    attach(&database, &contract(&[])).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws")).await;
    let as_tenant =
        format!("set role {role}; insert into game.results (title_id, ended_at) values");
    let allowed = psql(&database, &["-c", &format!("{as_tenant} (1, now())")]).await;
    assert_eq!((allowed.code, &*allowed.stderr), (Some(0), ""));
    assert_eq!(client.next_round().await.game_slug, "crash");
    let denied = psql(&database, &["-c", &format!("{as_tenant} (2, now())")]).await;
    assert!(denied.stderr.contains("violates row-level security policy"), "{}", denied.stderr);
    database.run("insert into game.results (title_id, ended_at) values (2, now())").await;
    assert_eq!(client.next_round().await.game_slug, "double");
}

#[tokio::test]
async fn a_repeated_id_within_a_transaction_does_not_fail_the_game() {
    let database =
        migrated_game("create table plays (id bigint primary key, at timestamptz, n int)").await;
    let args =
        ["--table", "plays", "--finished-at", "at", "--extras-columns", "n", "--slug", "one"];
    attach(&database, &[&args[..], &["--type", "kind", "--game-id-value", "1"]].concat()).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/one")).await;
    for (statements, id) in [
        (
            "begin; insert into plays values (2, now(), 1); delete from plays where id = 2; \
          insert into plays values (2, now(), 2); commit",
            2,
        ),
        (
            "begin; insert into plays values (3, now(), 1); delete from plays where id = 3; \
          insert into plays values (3, now(), 1), (4, null, 1); \
          update plays set at = now() where id = 4; commit",
            3,
        ),
    ] {
        let output = psql(&database, &["-v", "ON_ERROR_STOP=1", "-c", statements]).await;
        assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{statements}");
        let recorded =
            format!("select count(*)::text from datastream.outbox where round_id = {id}");
        assert_eq!(database.text(&recorded).await.as_deref(), Some("1"), "{statements}");
        client.rounds_until(id).await;
    }
    assert_eq!(client.next_round().await.round_id, 4);
    // A statement that writes nothing gets no transaction id.
    let idle = "begin; insert into plays select 5, now(), 1 where false; \
        select 'xid: ' || coalesce(pg_current_xact_id_if_assigned()::text, 'none'); commit";
    let output = psql(&database, &["-t", "-A", "-c", idle]).await;
    assert!(output.stdout.contains("xid: none"), "{}", output.stdout);
}

#[tokio::test]
async fn an_update_that_moves_a_finished_round_to_another_partition_streams_it_again() {
    let database = migrated_game(
        "create table parts (id bigint generated by default as identity, at timestamptz, n int, state text, \
           primary key (id, state)) partition by list (state); \
         create table hot partition of parts for values in ('hot'); \
         create table cold partition of parts for values in ('cold')",
    )
    .await;
    let args =
        ["--table", "parts", "--finished-at", "at", "--extras-columns", "n", "--slug", "one"];
    attach(&database, &[&args[..], &["--type", "kind", "--game-id-value", "1"]].concat()).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/one")).await;
    database.run("insert into parts values (1, null, 1, 'hot'), (2, now(), 1, 'hot')").await;
    assert_eq!(client.next_round().await.round_id, 2);
    // Moving an unfinished round sends nothing. Finishing and moving it at once sends it once.
    database.run("update parts set state = 'cold' where id = 1").await;
    database.run("update parts set state = 'hot', at = now() where id = 1").await;
    assert_eq!(client.next_round().await.round_id, 1);
    // An update in place sends nothing. For triggers, a move is a DELETE and an INSERT.
    database.run("update parts set n = 2 where id = 2").await;
    database.run("update parts set state = 'cold' where id = 2").await;
    let again = client.next_round().await;
    assert_eq!((again.round_id, &*again.extras), (2, r#"{"n": 2}"#));
    // Unless the transaction sets datastream.skip.
    let moving = "begin; set local datastream.skip = 'on'; update parts set state = 'hot'; commit";
    database.run(moving).await;
    database.run("insert into parts values (3, now(), 1, 'cold')").await;
    assert_eq!(client.next_round().await.round_id, 3);
}

/// What `attach --dry-run` prints for the contract's command on this database.
async fn dry_run(database: &TestDatabase, more: &[&'static str]) -> String {
    attach(database, &contract(&[more, &["--dry-run"]].concat())).await.stdout
}

/// Runs a script with psql alone, from a folder that has nothing of this project.
async fn by_psql(database: &TestDatabase, sql: &str) {
    let script = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(script.path(), sql).expect("a script");
    let psql = installation().bin().join("psql").display().to_string();
    let (url, file) = (database.url(), script.path().display().to_string());
    let args = [&url, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file];
    let output = program(&psql, &args).current_dir("/").run().await;
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
}

#[tokio::test]
async fn attaching_with_psql_gives_the_same_schema_and_migrate_changes_nothing() {
    let (ours, theirs, copy) =
        (TestDatabase::empty().await, TestDatabase::empty().await, TestDatabase::empty().await);
    for database in [&ours, &theirs, &copy] {
        database.run(GAME).await;
    }
    let before = dump(&theirs).await;
    attach(&ours, &contract(&["--index"])).await;
    // The program sees a copy only: the script is the same for the database itself.
    by_psql(&theirs, &dry_run(&copy, &["--index"]).await).await;
    assert_eq!(dump(&theirs).await, dump(&ours).await);
    assert_eq!(dump(&copy).await, before);
    let output = run(&theirs, "migrate", &[]).await;
    assert!(output.stdout.contains("up to date"), "{}{}", output.stdout, output.stderr);
    let again = attach(&theirs, &contract(&[])).await;
    assert!(again.stdout.contains("No changes needed"), "{}", again.stdout);
    by_psql(&theirs, &dry_run(&theirs, &["--capture", "poll", "--replace"]).await).await;
    attach(&ours, &contract(&["--capture", "poll", "--replace"])).await;
    assert_eq!(dump(&theirs).await, dump(&ours).await);
    let server = TestServer::on(theirs.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    theirs.run("insert into game.results (title_id, ended_at) values (1, now())").await;
    assert_eq!(client.next_round().await.round_id, 1);
    // Sessions of a killed server end after their query: wait, because they would block the drop.
    server.counts("datastream_reconciliations_total 1").await;
    drop(server);
    assert_eq!(run(&theirs, "detach", &["--table", "game.results"]).await.code, Some(0));
    theirs.run("drop schema datastream cascade").await;
    assert_eq!(dump(&theirs).await, before);
}

#[tokio::test]
async fn the_sql_of_a_dry_run_builds_the_index_of_the_new_options_after_a_rename() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    let rename = "alter table game.results rename to archive; \
        alter table game.archive add over_at timestamptz";
    database.run(rename).await;
    let named = |word| match word {
        "game.results" => "game.archive",
        "ended_at" => "over_at",
        word => word,
    };
    let more = ["--replace", "--index", "--dry-run"];
    let options: Vec<&str> = contract(&more).into_iter().map(named).collect();
    let sql = attach(&database, &options).await.stdout;
    by_psql(&database, &sql).await;
    let index =
        "select string_agg(indexdef, '; ') from pg_indexes where indexname ~ '^datastream_latest'";
    let index = database.text(index).await.expect("an index");
    assert!(index.contains("ON game.archive USING btree (title_id, over_at DESC"), "{index}");
    assert!(!index.contains("ended_at"), "{index}");
    let again: Vec<&str> = contract(&["--index"]).into_iter().map(named).collect();
    let again = attach(&database, &again).await.stdout;
    assert!(again.contains("No changes needed"), "{again}");
}

#[tokio::test]
async fn attaching_with_psql_works_after_the_migrations_were_reverted() {
    let database = migrated_game(GAME).await;
    assert_eq!(run(&database, "migrate", &["--revert"]).await.code, Some(0));
    by_psql(&database, &dry_run(&database, &["--index"]).await).await;
    let again = attach(&database, &contract(&["--index"])).await;
    assert!(again.stdout.contains("No changes needed"), "{}", again.stdout);
}

#[tokio::test]
async fn a_database_in_another_encoding_than_utf_8_is_attached_checked_and_streamed() {
    let database = TestDatabase::in_latin1().await;
    database.run(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    let doctor = run(&database, "doctor", &[]).await;
    assert_eq!(doctor.code, Some(0), "{}", doctor.stdout);
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let insert =
        "insert into game.results (title_id, ended_at, payload) values (1, now(), '{\"ä\":1}')";
    database.run(insert).await;
    assert_eq!(client.next_round().await.extras, r#"{"ä": 1}"#);
    // Sessions of a killed server end after their query: wait, because they would block the drop.
    server.counts("datastream_reconciliations_total 1").await;
    drop(server);
    database.run("drop schema datastream cascade").await;
    by_psql(&database, &dry_run(&database, &[]).await).await;
    let migrate = run(&database, "migrate", &[]).await;
    assert!(migrate.stdout.contains("up to date"), "{}{}", migrate.stdout, migrate.stderr);
}

#[tokio::test]
async fn attaching_a_table_does_not_hide_rounds_of_another_from_reconciliation() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    let missed = "set datastream.skip = 'on'; \
        insert into game.results (title_id, ended_at) values (1, now() at time zone 'UTC'); \
        reset datastream.skip; create table other (id bigint primary key, at timestamptz); \
        insert into other values (1000, now())";
    database.run(missed).await;
    let other = ["--table", "other", "--finished-at", "at", "--extras-columns", "id"];
    let game = ["--slug", "one", "--type", "kind", "--game-id-value", "77"];
    attach(&database, &[&other[..], &game].concat()).await;
    let found = "select datastream.reconcile('0')::text";
    assert_eq!(database.text(found).await.as_deref(), Some("1"));
    let recorded = "select string_agg(round_id::text, ',') from datastream.outbox";
    assert_eq!(database.text(recorded).await.as_deref(), Some("1"));
}
