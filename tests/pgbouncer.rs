//! PgBouncer in transaction mode: queries may go through it, LISTEN may not, and the server reports it.

use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Row, postgres::PgConnectOptions};

use testkit::{
    PgBouncer, TestDatabase, TestServer, WsClient,
    binary::{Output, datastream},
    eventually, get,
    round::ids,
};

/// A common setting for drivers: the pooler accepts startup parameters and ignores them.
const IGNORES: &str = "ignore_startup_parameters = options,extra_float_digits";

async fn run(words: &[&str], url: &str, listen: Option<&str>) -> Output {
    let run = datastream(words).env("DATABASE_URL", url);
    match listen {
        Some(listen) => run.env("DATASTREAM_LISTEN_URL", listen).run().await,
        None => run.run().await,
    }
}

async fn serve(pooler: &PgBouncer, database: &TestDatabase) -> TestServer {
    TestServer::on(pooler.url()).env("DATASTREAM_LISTEN_URL", database.url()).start().await
}

/// The game is another client of the pooler and names its statements like sqlx.
async fn game(pooler: &PgBouncer) -> PgConnection {
    let options: PgConnectOptions = pooler.url().parse().expect("a URL");
    let mut game = options.extra_float_digits(None).connect().await.expect("the pooler");
    for number in 1..=3 {
        let prepare =
            format!("prepare sqlx_s_{number} as select {number}; prepare s{number} as select 1");
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut game).await.expect("a statement");
    }
    game
}

/// Asserts that a server with queries through the pooler works completely.
async fn works_through(more: &str) {
    let database = TestDatabase::new().await;
    let Some(pooler) = PgBouncer::with(&database, more).await else { return };
    let _game = game(&pooler).await;
    let before = database.finish_many("crash", 5).await;
    let server = serve(&pooler, &database).await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, before[4]);
    let live = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, live);
    server.counts("datastream_listener_deaf 0").await;
    let page = get(&server.http("/rounds/crash?limit=3")).await.body;
    assert!(page.starts_with(&format!("[{{\"round_id\":{live},")), "{page}");
    drop(server);

    // Reconciliation and trimming work through the pooler.
    let skipped = "set datastream.skip = 'on'; insert into rounds (game_id, finished_at) \
        select id, now() from games where slug = 'crash'";
    database.run(skipped).await;
    let old = "insert into datastream.outbox (xid, attachment, round_id, at) values ('3', 1, 1, now() - interval '5 days')";
    database.run(old).await;
    // The ring buffer holds one round: an older resume point needs the database.
    let server = TestServer::on(pooler.url())
        .env("DATASTREAM_LISTEN_URL", database.url())
        .env("DATASTREAM_HISTORY", "1")
        .start()
        .await;
    let recorded = format!(
        "select concat((select count(*) from datastream.outbox where round_id = {}), \
         (select count(*) from datastream.outbox where xid = '3'))",
        live + 1
    );
    eventually("reconciliation and trimming", || async {
        (database.text(&recorded).await.as_deref() == Some("10")).then_some(())
    })
    .await;
    let mut resumed = WsClient::connect(server.ws(&format!("/ws/crash?after={}", before[1]))).await;
    // After a restart a resume may repeat rounds of overlapping transactions.
    let mut replayed = ids(&resumed.rounds_until(live).await);
    replayed.retain(|id| *id > before[1]);
    assert_eq!(replayed, [before[2], before[3], before[4], live]);
    server.counts("datastream_resumes_total{source=\"database\"} 1").await;
    let log = server.log();
    let told = log.iter().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
    // A slow machine may miss the probe; the check above covers that.
    let told = told
        .filter(|line| !line.contains("no notification arrives") && !line.contains("sqlx::pool"));
    let (found, other): (Vec<_>, Vec<_>) = told.partition(|line| line.contains("did not record"));
    assert!(found.len() == 1 && other.is_empty(), "{found:?} {other:?}");
}

#[tokio::test]
async fn a_server_works_with_queries_through_a_pooler() {
    works_through("").await;
}

#[tokio::test]
async fn a_server_works_behind_a_pooler_that_ignores_settings() {
    works_through(IGNORES).await;
}

#[tokio::test]
async fn many_readers_share_few_server_connections_of_the_pooler() {
    let database = TestDatabase::new().await;
    let Some(pooler) = PgBouncer::before(&database).await else { return };
    let rounds = database.finish_many("crash", 20).await;
    let servers = [serve(&pooler, &database).await, serve(&pooler, &database).await];
    let mut reads = Vec::new();
    for number in 0..60 {
        let server = &servers[number % 2];
        let url = server.http(&format!("/rounds/crash?limit={}", number % 20 + 1));
        reads.push(testkit::wait::beside(async move { get(&url).await }));
    }
    for (number, read) in reads.into_iter().enumerate() {
        let answer = read.await.expect("an answer");
        let found = answer.body.matches("\"round_id\"").count();
        assert_eq!((answer.status, found), (200, number % 20 + 1), "{}", answer.body);
        assert!(answer.body.contains(&format!("\"round_id\":{},", rounds[19])));
    }
}

#[tokio::test]
async fn a_listener_behind_a_pooler_is_reported_and_rounds_arrive_by_polls() {
    for more in ["", IGNORES] {
        let database = TestDatabase::new().await;
        let Some(pooler) = PgBouncer::with(&database, more).await else { return };
        let mut game = game(&pooler).await;
        let server = TestServer::on(pooler.url()).start().await;
        let mut client = WsClient::connect(server.ws("/ws/crash")).await;
        let rounds = database.finish_many("crash", 10).await;
        assert_eq!(ids(&client.rounds(10).await), rounds);
        server.counts("datastream_listener_deaf 1").await;
        server.counts("datastream_other_nodes 1").await;
        eventually("the log to say it", || async {
            let log = server.log().join("\n");
            let told = ["no notification arrives", "DATASTREAM_LISTEN_URL"];
            told.iter().all(|text| log.contains(text)).then_some(())
        })
        .await;
        // The server leaves nothing in the sessions that the game is given.
        for _ in 0..20 {
            let set = "select concat_ws(' ', current_setting('enable_seqscan'), \
                current_setting('plan_cache_mode'), current_setting('statement_timeout'), \
                (select count(*) from pg_prepared_statements where statement like '%datastream%'))";
            let row = sqlx::raw_sql(set).fetch_one(&mut game).await.expect("settings");
            assert_eq!(row.get::<String, _>(0), "on auto 0 0");
        }
        let round = database.finish("crash", "{}").await;
        assert_eq!(client.next_round().await.round_id, round);
    }
}

#[tokio::test]
async fn doctor_works_through_a_pooler_and_reports_the_listener_behind_it() {
    let database = TestDatabase::new().await;
    database.finish("crash", "{}").await;
    for more in ["", IGNORES] {
        let Some(pooler) = PgBouncer::with(&database, more).await else { return };
        let _game = game(&pooler).await;
        let well = run(&["doctor"], &pooler.url(), Some(&database.url())).await;
        assert_eq!(well.code, Some(0), "{}{}", well.stdout, well.stderr);
        assert!(!well.stdout.contains("skipped"), "{}", well.stdout);
        assert!(well.stdout.contains("through a pooler that shares"), "{}", well.stdout);
        let deaf = run(&["doctor"], &pooler.url(), None).await;
        assert_eq!(deaf.code, Some(1), "{}", deaf.stdout);
        assert!(deaf.stdout.contains("FAILED   listener: "), "{}", deaf.stdout);
        assert!(deaf.stdout.contains("to do: set DATASTREAM_LISTEN_URL"), "{}", deaf.stdout);
        assert!(deaf.stdout.contains(&pooler.port().to_string()), "{}", deaf.stdout);
    }
}

#[tokio::test]
async fn commands_that_need_a_session_use_the_direct_url_or_ask_for_one() {
    let database = TestDatabase::empty().await;
    let Some(pooler) = PgBouncer::before(&database).await else { return };
    let Some(ignoring) = PgBouncer::with(&database, IGNORES).await else { return };
    let table = ["--table", "public.rounds"];
    let attach = [&["attach"], &table[..], &["--replace", "--capture", "poll"]].concat();
    let detach = [&["detach"], &table[..]].concat();
    for words in [&["migrate"][..], &attach, &detach] {
        for pooler in [&pooler, &ignoring] {
            let refused = run(words, &pooler.url(), None).await;
            assert_eq!(refused.code, Some(1), "{words:?} {}", refused.stdout);
            assert!(refused.stderr.contains("Set DATASTREAM_LISTEN_URL"), "{}", refused.stderr);
        }
        let done = run(words, &pooler.url(), Some(&database.url())).await;
        assert_eq!(done.code, Some(0), "{words:?} {}", done.stderr);
    }
    let left = "select count(*)::text from pg_locks where locktype = 'advisory' and granted \
        and database = (select oid from pg_database where datname = current_database())";
    assert_eq!(database.text(left).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_table_with_quoted_names_is_attached_and_streamed_through_a_pooler() {
    let database = TestDatabase::empty().await;
    let Some(pooler) = PgBouncer::before(&database).await else { return };
    let game_of_its_own = "create schema \"The Game\"; create table \"The Game\".\"Title's\" \
        (\"Id\" int primary key, \"Code\" text, name text, kind text); \
        insert into \"The Game\".\"Title's\" values (1, 'crash', 'Crash', 'multiplier'); \
        create table \"The Game\".\"Results\" (\"Id\" serial primary key, title int, \
          \"Ended At\" timestamp, n int)";
    database.run(game_of_its_own).await;
    let attach = [
        &["attach", "--table", "\"The Game\".\"Results\"", "--id", "Id", "--index"][..],
        &["--finished-at", "Ended At", "--extras-columns", "n", "--game-id", "title"],
        &["--games", "\"The Game\".\"Title's\"", "--games-id", "Id", "--games-slug", "Code"],
        &["--games-type", "kind"],
    ];
    let attached = run(&attach.concat(), &pooler.url(), Some(&database.url())).await;
    assert_eq!(attached.code, Some(0), "{}", attached.stderr);
    let doctor = run(&["doctor"], &pooler.url(), Some(&database.url())).await;
    assert_eq!(doctor.code, Some(0), "{}", doctor.stdout);
    let insert = "insert into \"The Game\".\"Results\" (title, \"Ended At\", n) \
        values (1, timezone('UTC', now()), 7)";
    let mut game = game(&pooler).await;
    let mut finish = async || {
        sqlx::raw_sql(insert).execute(&mut game).await.expect("a round");
    };
    finish().await;
    let server = serve(&pooler, &database).await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, 1, "the seed");
    finish().await;
    let live = client.next_round().await;
    assert_eq!((live.round_id, &*live.extras), (2, "{\"n\": 7}"));
    let mut resumed = WsClient::connect(server.ws("/ws/crash?after=1")).await;
    assert_eq!(resumed.next_round().await.round_id, 2);
    server.counts("datastream_listener_deaf 0").await;
}
