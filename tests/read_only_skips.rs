//! The read-only mode beside rounds that cannot be read or sent.

use testkit::{
    DedicatedCluster, SseClient, TestDatabase, TestServer, WsClient, doctor::run, eventually, get,
    round::ids, server::Builder,
};

use super::unreadable_rounds::{DAMAGE, can_damage, noise};

fn skipped(reason: &str, count: u32) -> String {
    format!("datastream_rounds_skipped_total{{reason=\"{reason}\"}} {count}")
}

fn server(database: &TestDatabase) -> Builder {
    TestServer::on(database.url()).env("DATASTREAM_READ_ONLY", "true")
}

#[tokio::test]
async fn a_round_with_damaged_storage_is_skipped_on_every_path() {
    let cluster = DedicatedCluster::start();
    let database = TestDatabase::on(&cluster.address()).await;
    database.run("alter table rounds alter column extras set storage external").await;
    let running = server(&database).start().await;
    let mut live = WsClient::connect(running.ws("/ws")).await;
    let first = database.finish("crash", "{}").await;
    assert_eq!(live.next_round().await.round_id, first);
    if !can_damage(&database).await {
        return;
    }
    // In one transaction: no poll can read it before.
    let insert = "insert into rounds (game_id, finished_at, extras) select id, now(),";
    let noise = noise();
    let damaged =
        format!("begin; {insert} '{noise}' from games where slug = 'crash'; {DAMAGE}; commit");
    database.run(&damaged).await;
    let other = database.finish("double", "{}").await;
    assert_eq!(live.next_round().await.round_id, other);
    running.counts(&skipped("unreadable", 1)).await;
    running.logs("DATASTREAM_READ_ONLY_ROUNDS").await;
    drop(running);
    for history in ["1024", "1"] {
        let running = server(&database).env("DATASTREAM_HISTORY", history).start().await;
        let (_, seed) = SseClient::connect(&running.http("/sse/crash")).await.next_event().await;
        assert_eq!(seed.round_id, first, "behind the damaged round");
        let list = get(&running.http("/rounds/crash")).await;
        assert_eq!((list.status, list.json().as_array().map(Vec::len)), (200, Some(1)));
        let mut resumed = WsClient::connect(running.ws(&format!("/ws?after={first}"))).await;
        let live = database.finish("crash", "{}").await;
        assert!(ids(&resumed.rounds_until(live).await).contains(&other));
        running.counts(&skipped("unreadable", 1)).await;
        database.run(&format!("delete from rounds where id = {live}")).await;
    }
    let doctor = run(&database.url(), "doctor --read-only", &[]).await;
    assert!(doctor.stdout.contains("1 finished rounds cannot be read"), "{}", doctor.stdout);
}

#[tokio::test]
async fn a_round_with_more_text_than_allowed_or_a_failing_mapping_is_skipped() {
    let database = TestDatabase::new().await;
    let rounds = "select id as round_id, game_id, finished_at, \
        case when extras ? 'divide' then to_jsonb(1 / (extras->>'divide')::int) else extras end as extras from rounds";
    let start = || {
        server(&database)
            .env("DATASTREAM_READ_ONLY_ROUNDS", rounds)
            .env("DATASTREAM_MAX_ROUND", "60KiB")
            .start()
    };
    let running = start().await;
    let mut live = WsClient::connect(running.ws("/ws")).await;
    let first = database.finish("crash", r#"{"divide": 1}"#).await;
    database.finish("crash", r#"{"divide": 0}"#).await;
    database.finish("crash", &noise()).await;
    let last = database.finish("crash", r#"{"divide": 1}"#).await;
    assert_eq!(ids(&live.rounds(2).await), [first, last]);
    for reason in ["unreadable", "too_large"] {
        running.counts(&skipped(reason, 1)).await;
    }
    drop(running);
    let running = start().await;
    let mut resumed = WsClient::connect(running.ws(&format!("/ws?after={first}"))).await;
    let live = database.finish("crash", "{}").await;
    let came = ids(&resumed.rounds_until(live).await);
    assert!(came.ends_with(&[last, live]), "{came:?}");
    for reason in ["unreadable", "too_large"] {
        running.counts(&skipped(reason, 1)).await;
    }
    let doctor = testkit::binary::datastream(&["doctor", "--read-only"])
        .env("DATABASE_URL", database.url())
        .env("DATASTREAM_READ_ONLY_ROUNDS", rounds)
        .env("DATASTREAM_MAX_ROUND", "60KiB")
        .run()
        .await;
    for found in
        ["1 finished rounds cannot be read (division by zero)", "longer than DATASTREAM_MAX_ROUND"]
    {
        assert!(doctor.stdout.contains(found), "{found}: {}", doctor.stdout);
    }
}

#[tokio::test]
async fn infinite_moments_are_counted_and_do_not_stop_a_restart() {
    let database = TestDatabase::new().await;
    let first = database.finish("crash", "{}").await;
    for moment in ["'-infinity'", "'infinity'", "'0044-03-15 BC'"] {
        database.finish_at("crash", moment).await;
    }
    let running = server(&database).start().await;
    let (_, seed) = SseClient::connect(&running.http("/sse/crash")).await.next_event().await;
    assert_eq!(seed.round_id, first);
    running.counts(&skipped("out_of_range", 3)).await;
    database.finish_at("crash", "'infinity'").await;
    running.counts(&skipped("out_of_range", 4)).await;
}

#[tokio::test]
async fn a_start_takes_only_as_many_rounds_as_the_memory_has_room_for_and_resumes_lose_none() {
    let database = TestDatabase::new().await;
    let insert = "insert into rounds (game_id, finished_at, extras) \
        select id, now() - n * interval '1 min', jsonb_build_object('text', repeat('x', 500000)) \
        from games, generate_series(1, 60) n where slug = 'crash' returning id::text";
    database.run(insert).await;
    let quiet = database.finish_at("double", "now() - interval '2 hours'").await;
    let running = server(&database).env("DATASTREAM_MEMORY", "32MiB").start().await;
    let held = running.metric("datastream_memory_used_bytes{kind=\"history\"}").await;
    assert!(held < 17e6, "{held}");
    let (_, seed) = SseClient::connect(&running.http("/sse/double")).await.next_event().await;
    assert_eq!(seed.round_id, quiet);
    let oldest = "select id::text from rounds where extras <> '{}' \
        order by finished_at desc offset 25 limit 1";
    let oldest = database.text(oldest).await.expect("an id");
    let mut resumed = WsClient::connect(running.ws(&format!("/ws/crash?after={oldest}"))).await;
    let last = "select id::text from rounds where extras <> '{}' order by finished_at desc limit 1";
    let last: i64 = database.text(last).await.and_then(|id| id.parse().ok()).expect("an id");
    let came = ids(&resumed.rounds_until(last).await);
    assert!(came.len() >= 25, "{came:?}");
}

#[tokio::test]
async fn the_content_of_a_round_is_read_once_however_often_polls_find_its_key() {
    let database = TestDatabase::new().await;
    let made = |body: &str| {
        format!(
            "create or replace function content(jsonb) returns jsonb language plpgsql stable \
             as $$ begin {body} end $$"
        )
    };
    database.run(&made("return $1;")).await;
    let rounds =
        "select id as round_id, game_id, finished_at, content(extras) as extras from rounds";
    let running = server(&database)
        .env("DATASTREAM_READ_ONLY_ROUNDS", rounds)
        .env("DATASTREAM_READ_ONLY_OVERLAP", "1h")
        .start()
        .await;
    let mut live = WsClient::connect(running.ws("/ws/crash")).await;
    let round = database.finish("crash", "{}").await;
    assert_eq!(live.next_round().await.round_id, round);
    database.run(&made("raise 'read again';")).await;
    let polls = running.metric("datastream_polls_total").await;
    eventually("five polls", || async {
        (running.metric("datastream_polls_total").await >= polls + 5.0).then_some(())
    })
    .await;
    running.counts(&skipped("unreadable", 0)).await;
    database.run(&made("return $1;")).await;
    let next = database.finish("crash", "{}").await;
    assert_eq!(live.next_round().await.round_id, next);
}
