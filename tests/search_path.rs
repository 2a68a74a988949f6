//! The triggers run with their owner's rights and the search_path of the session that writes a round, so
//! they must not depend on it. A writer shadows every function they use, in a schema that comes first.

use testkit::{TestDatabase, TestServer, WsClient, binary::datastream};

const GAME: &str = "create schema shop; \
    create table shop.titles (id bigint primary key, slug text, name text, type text); \
    insert into shop.titles values (1, 'crash', 'Crash', 'multiplier'); \
    create table shop.plays (id integer generated always as identity primary key, game_id bigint, \
      finished_at timestamp, point numeric, note text)";

/// Each of these functions writes its name to `trap.caught` if it is called.
const TRAP: &str = r#"
    create schema trap;
    create table trap.caught (name text);
    grant all on schema trap to public;
    grant all on trap.caught to public;
    do $do$
    declare
      said text;
    begin
      foreach said in array array[
        'current_setting(text, boolean) returns text', 'set_config(text, text, boolean) returns text',
        'pg_notify(text, text) returns void', 'pg_try_advisory_xact_lock(integer, integer) returns boolean',
        'octet_length(text) returns integer', 'pg_current_xact_id() returns xid8',
        'pg_current_snapshot() returns pg_snapshot', 'to_json(text) returns json', 'to_json(anyelement) returns json',
        'isfinite(timestamptz) returns boolean', 'date_trunc(text, timestamp) returns timestamp',
        'format(text, integer, bigint, text, json) returns text', 'pg_column_size(anyelement) returns integer',
        'json_build_object(text, numeric, text, text) returns json', 'to_json(timestamptz) returns json',
        'timezone(text, timestamptz) returns timestamp', 'timezone(text, timestamp) returns timestamptz',
        'equal_text(text, text) returns boolean', 'other_text(text, text) returns boolean', 'joined(text, text) returns text',
        'joined_json(text, json) returns text', 'equal_int(bigint, integer) returns boolean', 'some_int(bigint, integer) returns boolean', 'most(integer, integer) returns boolean',
        'more(integer, integer) returns boolean', 'before(timestamptz, timestamptz) returns boolean',
        'times(bigint, integer) returns bigint', 'plus(bigint, bigint) returns bigint', 'rest(bigint, integer) returns bigint']
      loop
        execute format('create function trap.%s language plpgsql as $f$ begin '
          'insert into trap.caught values (%L); return %s; end $f$', said, said, case when said like '%void' then '' else 'null' end);
      end loop;
      foreach said in array array[
        '= (function = trap.equal_text, leftarg = text, rightarg = text)', '<> (function = trap.other_text, leftarg = text, rightarg = text)',
        '|| (function = trap.joined, leftarg = text, rightarg = text)', '|| (function = trap.joined_json, leftarg = text, rightarg = json)',
        '= (function = trap.equal_int, leftarg = bigint, rightarg = integer)', '<= (function = trap.most, leftarg = integer, rightarg = integer)',
        '> (function = trap.more, leftarg = integer, rightarg = integer)', '> (function = trap.some_int, leftarg = bigint, rightarg = integer)', '< (function = trap.before, leftarg = timestamptz, rightarg = timestamptz)',
        '* (function = trap.times, leftarg = bigint, rightarg = integer)', '+ (function = trap.plus, leftarg = bigint, rightarg = bigint)',
        '% (function = trap.rest, leftarg = bigint, rightarg = integer)']
      loop
        execute 'create operator trap.' || said;
      end loop;
    end
    $do$;
    create domain trap.text as pg_catalog.text check (value is null);
    create domain trap.regclass as pg_catalog.oid check (value is null);
    create domain trap.timestamptz as pg_catalog.timestamptz check (value is null);
"#;

const FINISH: [&str; 3] = [
    "insert into shop.plays (game_id, finished_at, point, note) values (1, localtimestamp, 1.17, 'a')",
    "insert into shop.plays (game_id, point, note) values (1, 2.5, 'b')",
    "update shop.plays set finished_at = localtimestamp where finished_at is null",
];

async fn each_round_is_streamed_and_no_shadowing_function_is_called(
    capture: &str,
    by_row: bool,
    condition: Option<&str>,
) {
    let database = TestDatabase::empty().await;
    database.run(GAME).await;
    if by_row {
        let parted = "drop table shop.plays; create table shop.plays (id integer generated always as identity, \
            game_id bigint, finished_at timestamp, point numeric, note text, primary key (id, game_id)) partition by list (game_id); \
            create table shop.plays_1 partition of shop.plays for values in (1)";
        database.run(parted).await;
    }
    let attach =
        "attach --table shop.plays --games shop.titles --extras-columns point,note --capture";
    let condition = condition.map(|condition| ["--finished-when", condition]);
    let args = attach.split(' ').chain([capture]).chain(condition.into_iter().flatten());
    let args: Vec<&str> = args.collect();
    let attached = datastream(&args).env("DATABASE_URL", database.url()).run().await;
    assert_eq!(attached.code, Some(0), "{}", attached.stderr);
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.run(TRAP).await;
    for statement in FINISH {
        database
            .run(&format!(
                "create domain pg_temp.text as pg_catalog.text check (trap.joined(value::pg_catalog.text, '') is null and false); \
                 begin; set local search_path = trap, pg_catalog; {statement}; commit; drop domain pg_temp.text"
            ))
            .await;
    }
    assert_eq!(client.next_round().await.extras, r#"{"note": "a", "point": 1.17}"#);
    assert_eq!(client.next_round().await.extras, r#"{"note": "b", "point": 2.5}"#);
    let caught = "select string_agg(name, ', ') from trap.caught";
    assert_eq!(database.text(caught).await, None, "capture {capture}, by row: {by_row}");
    let outbox = "select count(*)::text from datastream.outbox";
    assert_eq!(database.text(outbox).await.as_deref(), Some("2"), "and both were recorded");
}

#[tokio::test]
async fn triggers_ignore_functions_in_the_search_path_of_the_writer() {
    for capture in ["auto", "notify", "poll"] {
        each_round_is_streamed_and_no_shadowing_function_is_called(capture, false, None).await;
    }
    each_round_is_streamed_and_no_shadowing_function_is_called("auto", true, None).await;
}

#[tokio::test]
async fn conditions_ignore_functions_operators_and_types_in_the_search_path_of_the_writer() {
    // The second one may raise an error: it is in a function of its own.
    for condition in ["note <> 'open'", "note::text <> 'open' and point::integer >= 0"] {
        for by_row in [false, true] {
            let condition = Some(condition);
            each_round_is_streamed_and_no_shadowing_function_is_called("auto", by_row, condition)
                .await;
        }
    }
}

#[tokio::test]
async fn attach_and_detach_ignore_functions_in_the_search_path() {
    let database = TestDatabase::empty().await;
    database.run(GAME).await;
    let words = ["attach", "--table", "shop.plays", "--games", "shop.titles", "--extras", "note"];
    let attach = async || datastream(&words).env("DATABASE_URL", database.url()).run().await;
    assert_eq!(attach().await.code, Some(0));
    // A better match than PostgreSQL's function, which accepts any number of arguments of any type.
    database
        .run(
            "create table public.caught (name text); \
             create function public.format(text, name, name) returns text language plpgsql as \
             $$ begin insert into public.caught values ('format'); return pg_catalog.format($1, $2, $3); end $$",
        )
        .await;
    database.run("select datastream.detach('shop.plays')").await;
    let again = attach().await;
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let caught = "select string_agg(name, ', ') from public.caught";
    assert_eq!(database.text(caught).await, None);
}
