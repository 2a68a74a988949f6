//! Rounds that cannot be read or sent: each is skipped and counted, and stops no other.

use embedded_postgres::Stop;

use testkit::{
    DedicatedCluster, SseClient, TestDatabase, TestServer, WsClient,
    doctor::run,
    eventually,
    game::{attach, dice, migrated_game},
    get,
    round::ids,
};

const UNREADABLE: &str = "datastream_rounds_skipped_total{reason=\"unreadable\"} 1";

/// Damages the stored extras of all rounds, which are in the TOAST table.
pub(crate) const DAMAGE: &str = "do $$ declare toast regclass; tids tid[]; \
    begin select reltoastrelid::regclass into toast from pg_class where oid = 'public.rounds'::regclass; \
    execute format('select array_agg(ctid) from %s', toast) into tids; \
    execute format('select heap_force_kill(%L::regclass, $1)', toast) using tids; end $$";

/// Makes the extension; false if PostgreSQL has none.
pub(crate) async fn can_damage(database: &TestDatabase) -> bool {
    let offered = "select count(*)::text from pg_available_extensions where name = 'pg_surgery'";
    if database.text(offered).await.as_deref() != Some("1") {
        eprintln!("skipped: no pg_surgery (PostgreSQL 14, contrib)");
        return false;
    }
    database.run("create extension if not exists pg_surgery").await;
    true
}

async fn damage(database: &TestDatabase) -> bool {
    let can = can_damage(database).await;
    if can {
        database.run(DAMAGE).await;
    }
    can
}

pub(crate) fn noise() -> String {
    let text: String = (0..64_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    format!("{{\"noise\": \"{text}\"}}")
}

#[tokio::test]
async fn a_round_with_damaged_storage_stops_neither_start_nor_seed_nor_list_nor_replay() {
    let cluster = DedicatedCluster::start();
    let database = TestDatabase::on(&cluster.address()).await;
    database.run("alter table rounds alter column extras set storage external").await;
    let first = database.finish("crash", "{}").await;
    let damaged = database.finish("crash", &noise()).await;
    let other = database.finish("double", "{}").await;
    if !damage(&database).await {
        return;
    }
    // The second one holds one round of each game: a resume asks the database.
    for history in ["1024", "1"] {
        let server =
            TestServer::on(database.url()).env("DATASTREAM_HISTORY", history).start().await;
        let (_, seed) = SseClient::connect(&server.http("/sse/crash")).await.next_event().await;
        assert_eq!(seed.round_id, first, "behind the damaged round");
        let list = get(&server.http("/rounds/crash")).await;
        assert_eq!(list.status, 200, "{}", list.body);
        let listed = list.json();
        let listed: Vec<_> = listed.as_array().expect("a list").iter().collect();
        assert!(listed.iter().all(|round| round["round_id"] != damaged), "{}", list.body);
        assert!(listed.iter().any(|round| round["round_id"] == first), "{}", list.body);
        let mut resumed = WsClient::connect(server.ws(&format!("/ws?after={first}"))).await;
        let live = database.finish("crash", "{}").await;
        let replayed = ids(&resumed.rounds_until(live).await);
        assert!(replayed.contains(&other) && !replayed.contains(&damaged), "{replayed:?}");
        server.counts(UNREADABLE).await;
        let log = server.log().join("\n");
        assert!(
            log.contains("public.rounds") && log.contains("a finished round cannot be sent"),
            "{log}"
        );
        database.run(&format!("delete from rounds where id = {live}")).await;
    }
}

/// A table whose mapping can be made to fail for one value.
const NOTES: &str = "create type verdict as enum ('good', 'bad'); \
    create function verdict_json(verdict) returns json language plpgsql stable \
    as $$ begin return to_json($1::text); end $$; \
    create cast (verdict as json) with function verdict_json(verdict); \
    create table notes (id bigint primary key, at timestamptz, note verdict)";
const FAILS: &str = "create or replace function verdict_json(verdict) returns json language plpgsql stable \
    as $$ begin if $1::text = 'bad' then raise 'no verdict'; end if; return to_json($1::text); end $$";

/// The same, attached, on a cluster of its own.
async fn failing_notes(cluster: &DedicatedCluster) -> TestDatabase {
    let database = TestDatabase::on(&cluster.address()).await;
    database.run(NOTES).await;
    attach(&database, &dice("notes", &["--extras-columns", "note"])).await;
    database.run(FAILS).await;
    database
}

async fn note(database: &TestDatabase, id: i64, note: &str) {
    database.run(&format!("insert into notes values ({id}, now(), '{note}')")).await;
}

fn unreadable(count: u32) -> String {
    format!("datastream_rounds_skipped_total{{reason=\"unreadable\"}} {count}")
}

#[tokio::test]
async fn a_failover_beside_unreadable_rounds_streams_the_others_once() {
    let mut primary = DedicatedCluster::start_with(&[("synchronous_commit", "on")]);
    let database = failing_notes(&primary).await;
    let standby = DedicatedCluster::standby_of(&primary);
    let url = super::failover::either(&primary, &standby, &database);
    let server = TestServer::on(url).start().await;
    let mut client = WsClient::connect(server.ws("/ws/dice")).await;
    for (id, verdict) in [(1, "good"), (2, "bad"), (3, "good")] {
        note(&database, id, verdict).await;
    }
    assert_eq!(ids(&client.rounds(2).await), [1, 3]);
    // Not a minute later: the trigger records a round whose payload fails.
    server.counts(&unreadable(1)).await;
    server.counts("datastream_rounds_reconciled_total 0").await;
    // The new primary has rounds that the server has not seen, one of them unreadable.
    server.freeze().await;
    for (id, verdict) in [(4, "bad"), (5, "good")] {
        note(&database, id, verdict).await;
    }
    let replica = super::failover::connected(&standby.address(), &database.name).await;
    eventually("the standby to have all", || async {
        let last = "select coalesce(max(id), 0)::text from notes";
        (replica.text(last).await.as_deref() == Some("5")).then_some(())
    })
    .await;
    primary.stop(Stop::Immediate);
    replica.run("select pg_promote()").await;
    server.signal("CONT");
    assert_eq!(client.next_round().await.round_id, 5);
    server.ready().await;
    note(&replica, 6, "bad").await;
    note(&replica, 7, "good").await;
    assert_eq!(client.next_round().await.round_id, 7);
    server.counts(&unreadable(3)).await;
    server.counts("datastream_rounds_lost_by_database_total 0").await;
}

#[tokio::test]
async fn a_restart_of_postgresql_beside_unreadable_rounds_streams_the_others_once() {
    let mut cluster = DedicatedCluster::start();
    let database = failing_notes(&cluster).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/dice")).await;
    note(&database, 1, "good").await;
    assert_eq!(client.next_round().await.round_id, 1);
    server.freeze().await;
    for (id, verdict) in [(2, "bad"), (3, "good"), (4, "bad")] {
        note(&database, id, verdict).await;
    }
    cluster.restart(Stop::Fast);
    server.signal("CONT");
    assert_eq!(client.next_round().await.round_id, 3);
    server.counts(&unreadable(2)).await;
    // Again: a round that was skipped is not met as a new one.
    cluster.restart(Stop::Fast);
    server.unready().await;
    server.ready().await;
    note(&database, 5, "good").await;
    assert_eq!(client.next_round().await.round_id, 5);
    server.counts(&unreadable(2)).await;
}

#[tokio::test]
async fn two_servers_skip_the_same_rounds_and_each_resumes_across_them() {
    let cluster = DedicatedCluster::start();
    let database = failing_notes(&cluster).await;
    let start = || TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start();
    let servers = [start().await, start().await];
    servers[0].counts("datastream_other_nodes 1").await;
    let mut clients = Vec::new();
    for server in &servers {
        clients.push(WsClient::connect(server.ws("/ws/dice")).await);
    }
    for (id, verdict) in [(1, "good"), (2, "bad"), (3, "good"), (4, "bad"), (5, "good")] {
        note(&database, id, verdict).await;
    }
    for (server, client) in servers.iter().zip(&mut clients) {
        assert_eq!(ids(&client.rounds(3).await), [1, 3, 5]);
        server.counts(&unreadable(2)).await;
        let mut resumed = WsClient::connect(server.ws("/ws/dice?after=1")).await;
        let came = ids(&resumed.rounds_until(5).await);
        assert!(came.ends_with(&[3, 5]), "{came:?}");
        server.counts(&unreadable(2)).await;
    }
}

#[tokio::test]
async fn a_round_whose_mapping_fails_is_skipped_at_the_start_in_lists_and_in_replays() {
    let database = migrated_game(NOTES).await;
    attach(&database, &dice("notes", &["--extras-columns", "note"])).await;
    for (id, note) in [(1, "good"), (2, "bad"), (3, "good"), (4, "bad")] {
        database.run(&format!("insert into notes values ({id}, now(), '{note}')")).await;
    }
    database.run(FAILS).await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start().await;
    let (_, seed) = SseClient::connect(&server.http("/sse/dice")).await.next_event().await;
    assert_eq!(seed.round_id, 3, "behind the latest one");
    let list = get(&server.http("/rounds/dice")).await;
    assert_eq!((list.status, list.body.matches("\"round_id\"").count()), (200, 2), "{}", list.body);
    let mut resumed = WsClient::connect(server.ws("/ws/dice?after=1")).await;
    assert_eq!(resumed.next_round().await.round_id, 3);
    server.counts("datastream_rounds_skipped_total{reason=\"unreadable\"} 2").await;
    database.run("insert into notes values (5, now(), 'good')").await;
    assert_eq!(resumed.next_round().await.round_id, 5);
}

#[tokio::test]
async fn a_round_with_more_text_than_allowed_is_skipped_on_every_path() {
    let database = TestDatabase::new().await;
    let start = || TestServer::on(database.url()).env("DATASTREAM_MAX_ROUND", "60KiB").start();
    let server = start().await;
    let mut live = WsClient::connect(server.ws("/ws/crash")).await;
    let first = database.finish("crash", "{}").await;
    let large = database.finish("crash", &noise()).await;
    let last = database.finish("double", "{}").await;
    assert_eq!(live.next_round().await.round_id, first);
    let too_large = "datastream_rounds_skipped_total{reason=\"too_large\"} 1";
    server.counts(too_large).await;
    drop(server);
    let server = start().await;
    let (_, seed) = SseClient::connect(&server.http("/sse/crash")).await.next_event().await;
    assert_eq!(seed.round_id, first);
    let list = get(&server.http("/rounds/crash")).await.body;
    assert!(!list.contains(&format!("\"round_id\":{large},")), "{list}");
    let mut resumed = WsClient::connect(server.ws(&format!("/ws?after={first}"))).await;
    assert_eq!(resumed.next_round().await.round_id, last);
    server.counts(too_large).await;
}

#[tokio::test]
async fn a_resume_after_a_restart_has_the_rounds_that_a_skipped_one_displaced_from_memory() {
    let database = TestDatabase::new().await;
    let named = database.finish("double", "{}").await;
    let mut later = database.finish_many("crash", 3).await;
    database.finish("crash", &noise()).await;
    later.extend(database.finish_many("crash", 1).await);
    let server = TestServer::on(database.url())
        .env("DATASTREAM_HISTORY", "3")
        .env("DATASTREAM_MAX_ROUND", "60KiB");
    let server = server.start().await;
    let mut resumed = WsClient::connect(server.ws(&format!("/ws?after={named}"))).await;
    assert_eq!(ids(&resumed.rounds_until(later[3]).await), later);
}

#[tokio::test]
async fn an_infinite_moment_does_not_stop_a_restart() {
    let database = TestDatabase::new().await;
    let first = database.finish("crash", "{}").await;
    database.finish_at("crash", "'-infinity'").await;
    database.finish_at("crash", "'infinity'").await;
    let server = TestServer::on(database.url()).start().await;
    let (_, seed) = SseClient::connect(&server.http("/sse/crash")).await.next_event().await;
    assert_eq!(seed.round_id, first);
    assert_eq!(get(&server.http("/rounds/crash")).await.status, 200);
    server.counts("datastream_rounds_skipped_total{reason=\"out_of_range\"} 2").await;
}

#[tokio::test]
async fn doctor_finds_rounds_that_cannot_be_sent() {
    let database = TestDatabase::new().await;
    database.finish("crash", "{}").await;
    let endless = database.finish_at("crash", "'-infinity'").await;
    let large =
        database.finish("double", &format!("{{\"text\": \"{}\"}}", "x".repeat(1 << 20))).await;
    let output = run(&database.url(), "doctor", &[]).await;
    for (id, reason) in [(endless, "out of range"), (large, "DATASTREAM_MAX_ROUND")] {
        let names =
            |line: &str| line.contains(reason) && line.contains(&format!("such as {id} of"));
        assert!(output.stdout.lines().any(names), "{}", output.stdout);
    }
}

#[tokio::test]
async fn doctor_names_each_reason_beside_the_others_and_uses_the_limit_of_the_operator() {
    let cluster = DedicatedCluster::start();
    let database = failing_notes(&cluster).await;
    database.run("alter table rounds alter column extras set storage external").await;
    for (id, verdict) in [(101, "good"), (102, "bad"), (103, "bad")] {
        note(&database, id, verdict).await;
    }
    let endless = database.finish_at("crash", "'infinity'").await;
    let damaged = database.finish("crash", &noise()).await;
    if !damage(&database).await {
        return;
    }
    let large = database.finish("crash", &noise()).await;
    let limited = testkit::binary::datastream(&["doctor"])
        .env("DATABASE_URL", database.url())
        .env("DATASTREAM_MAX_ROUND", "60KiB")
        .run()
        .await;
    let failed = "3 finished rounds cannot be read (";
    for expected in [
        failed.to_owned(),
        format!("(finished_at is out of range), such as {endless} of public.rounds"),
        format!("(longer than DATASTREAM_MAX_ROUND), such as {large} of public.rounds"),
    ] {
        assert!(limited.stdout.contains(&expected), "{expected}: {}", limited.stdout);
    }
    assert_eq!(limited.code, Some(1), "{}", limited.stdout);
    database.run("delete from notes where note = 'bad'").await;
    let doctor = run(&database.url(), "doctor", &[]).await.stdout;
    assert!(
        doctor.contains("1 finished rounds cannot be read (missing chunk number 0"),
        "{doctor}"
    );
    assert!(doctor.contains(&format!("such as {damaged} of public.rounds")), "{doctor}");
    assert!(!doctor.contains("longer than"), "{doctor}");
}

#[tokio::test]
async fn a_game_whose_name_cannot_be_read_stops_no_other() {
    let made = |body: &str| {
        format!(
            "create or replace function label(text, int) returns text language plpgsql stable \
             as $$ begin {body} return $1; end $$"
        )
    };
    let tables = "create table shops (id int primary key, code text, name text); \
        insert into shops values (1, 'one', 'One'), (2, 'two', 'Two'), (3, 'three', 'Three'); \
        create view titles as select id, label(code, id) as code, label(name, -id) as name from shops; \
        create table sales (id bigint generated always as identity primary key, shop int, at timestamptz)";
    let database = migrated_game(&format!("{}; {tables}", made(""))).await;
    let game = ["--game-id", "shop", "--games", "titles", "--games-slug", "code"];
    let more = ["--finished-at", "at", "--extras-columns", "shop", "--games-type", "code"];
    attach(&database, &[&["--table", "sales"], &more[..], &game].concat()).await;
    let sell = async |shop: i64| {
        database.run(&format!("insert into sales (shop, at) values ({shop}, now())")).await;
    };
    let server = TestServer::on(database.url()).start().await;
    let mut live = WsClient::connect(server.ws("/ws")).await;
    sell(1).await;
    assert_eq!(live.next_round().await.game_slug, "one");
    database.run(&made("if $2 in (-2, -3) then raise 'no label'; end if;")).await;
    database.run("insert into shops values (4, 'four', 'Four')").await;
    for shop in [2, 1, 4, 3] {
        sell(shop).await;
    }
    let slugs: Vec<_> = live.rounds(4).await.into_iter().map(|round| round.game_slug).collect();
    assert_eq!(slugs, ["two", "one", "four", "three"]);
    assert_eq!(server.metric("datastream_listener_connects_total").await, 1.0);
    drop(server);
    let server = TestServer::on(database.url()).start().await;
    let games = get(&server.http("/games")).await.json();
    let names: Vec<_> = games.as_array().expect("games").iter().map(|game| &game["name"]).collect();
    assert_eq!(names, ["One", "two", "three", "Four"]);
    assert_eq!(get(&server.http("/rounds/three")).await.status, 200);
    assert_eq!(get(&server.http("/rounds/nothing")).await.status, 404);
    database.run(&made("if $2 in (2, -3) then raise 'no label'; end if;")).await;
    let doctor = run(&database.url(), "doctor", &[]).await;
    assert!(doctor.stdout.contains("game 2 cannot be read (no label)"), "{}", doctor.stdout);
    assert_eq!(doctor.code, Some(1));
}
