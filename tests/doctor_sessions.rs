//! `datastream doctor` on other sessions and servers: long transactions, used connections,
//! subscriptions, publications, a standby.

use testkit::{
    DedicatedCluster, TestDatabase, TestServer, WsClient,
    cluster::Address,
    doctor::{assert_well, findings, run, told},
    eventually,
    game::{attach, dice, migrated_game},
};

use crate::doctor_faults::{game, pretended};

#[tokio::test]
async fn an_uncommitted_round_that_holds_the_notification_lock_is_reported() {
    let database = TestDatabase::new().await;
    assert_well(&findings(&database.url(), "transactions", &[]).await, "transactions");
    let mut forgotten = database.pool.acquire().await.expect("a connection");
    let insert =
        "begin; insert into rounds (game_id, finished_at) select id, now() from games limit 1";
    sqlx::raw_sql(insert).execute(&mut *forgotten).await.expect("an open transaction");
    let url = database.url();
    eventually("a transaction that is old enough", || async {
        let found = findings(&url, "transactions", &[]).await;
        found
            .iter()
            .any(|line| line.says.contains("held the lock that a writer needs to notify"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn doctor_reports_a_long_transaction_and_how_to_end_it() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let mut forgotten = database.pool.acquire().await.expect("a connection");
    sqlx::raw_sql("set application_name = 'forgotten'; begin; select count(*) from rounds")
        .execute(&mut *forgotten)
        .await
        .expect("an open transaction");
    assert_well(&findings(&url, "transactions", &[]).await, "transactions");
    let later = pretended!(
        "clock_timestamp() returns timestamptz language sql \
         as 'select pg_catalog.clock_timestamp() + interval ''301 s'''"
    );
    database.run(later).await;
    let found = findings(&url, "transactions", &[]).await;
    let says = "forgotten, idle in transaction) has been in a transaction since";
    told(&found, "warning", says).follow(&database).await;
    drop(forgotten.detach());
    eventually("the end of the transaction", || async {
        let found = findings(&url, "transactions", &[]).await;
        found.iter().all(|line| line.status == "ok").then_some(())
    })
    .await;
}

/// The role of the server, which sees less of other sessions than a superuser.
async fn reader(cluster: &DedicatedCluster, database: &TestDatabase) -> String {
    let url = database.url();
    told(&findings(&url, "rights", &[]).await, "warning", "is a superuser").follow(database).await;
    let url = Address::tcp_url(&database.name, cluster.address().tcp_port);
    url.replace("postgres@", "datastream_reader@")
}

#[tokio::test]
async fn doctor_reports_a_server_with_few_free_connections() {
    let cluster = DedicatedCluster::start_with(&[("max_connections", "20")]);
    let database = game(&cluster.address()).await;
    let reader = reader(&cluster, &database).await;
    let mut taken = Vec::new();
    for _ in 0..8 {
        taken.push(database.pool.acquire().await.expect("a connection"));
    }
    // The superuser counts the same connections, except the one of each query.
    let free = "select (20 - 3 - count(*) - 1)::text from pg_stat_activity \
        where backend_type = 'client backend'";
    let free = sqlx::query_scalar::<_, String>(free).fetch_one(&mut *taken[0]).await;
    let free: i64 = free.expect("a count").parse().expect("a number");
    for url in [&database.url(), &reader] {
        let found = findings(url, "connections", &[]).await;
        let says = " of 20 connections are free, and serve uses up to 12";
        let warning = told(&found, "warning", says);
        assert!(warning.remedy.contains("raise max_connections"));
        // A session that this test has closed may be counted by one of the two.
        let told: i64 = warning.says.replace(says, "").parse().expect("a number");
        assert!((told - free).abs() <= 1, "{told} and {free}");
    }
    let ended = taken.into_iter().map(|connection| connection.close());
    futures_util::future::join_all(ended).await;
    eventually("the sessions to be gone", || async {
        let found = findings(&reader, "connections", &[]).await;
        found.iter().all(|line| line.status == "ok").then_some(())
    })
    .await;
}

#[tokio::test]
async fn doctor_reports_a_logical_subscription_and_the_remedy_streams_its_rounds() {
    let cluster = DedicatedCluster::start_with(&[("wal_level", "logical")]);
    let (publisher, database) = (game(&cluster.address()).await, game(&cluster.address()).await);
    let url = database.url();
    assert_well(&findings(&url, "subscriber", &[]).await, "subscriber");
    publisher.run("create publication rounds for table game.results").await;
    publisher.run("select pg_create_logical_replication_slot('rounds', 'pgoutput')").await;
    let subscribe = format!(
        "create subscription rounds connection 'host=127.0.0.1 port={} user=postgres dbname={}' \
         publication rounds with (create_slot = false, copy_data = false)",
        cluster.address().tcp_port,
        publisher.name
    );
    database.run(&subscribe).await;
    let found = findings(&url, "subscriber", &[]).await;
    told(&found, "warning", "trigger datastream_updated does not fire");
    told(&found, "warning", "trigger datastream_inserted does not fire").follow(&database).await;
    assert_well(&findings(&url, "subscriber", &[]).await, "subscriber");
    let server = TestServer::on(&url).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    publisher.run("insert into game.results (title_id, ended_at) values (1, now())").await;
    assert_eq!(client.next_round().await.round_id, 1);
    publisher.run("insert into game.results (title_id) values (1)").await;
    publisher.run("update game.results set ended_at = now() where ended_at is null").await;
    assert_eq!(client.next_round().await.round_id, 2);
    let attached = run(&url, "migrate --capture poll", &[]).await;
    assert_eq!(attached.code, Some(0), "{}", attached.stderr);
    publisher.run("insert into game.results (title_id, ended_at) values (1, now())").await;
    assert_eq!(client.next_round().await.round_id, 3);
    // A subscription blocks the drop of its database and keeps the publisher's slot.
    database.run("drop subscription rounds").await;
}

#[tokio::test]
async fn doctor_reports_a_standby() {
    let primary = DedicatedCluster::start();
    let database = TestDatabase::on(&primary.address()).await;
    let standby = DedicatedCluster::standby_of(&primary);
    let url = standby.address().url(&database.name);
    let found = findings(&url, "primary", &[]).await;
    let told = told(&found, "failed", "standby");
    assert!(told.remedy.contains("target_session_attrs=read-write"), "{told:?}");
}

#[tokio::test]
async fn doctor_sees_other_sessions_as_the_reader_after_the_grant() {
    let cluster = DedicatedCluster::start();
    let database = game(&cluster.address()).await;
    let reader = reader(&cluster, &database).await;
    let found = findings(&reader, "transactions", &[]).await;
    told(&found, "ok", "members of pg_read_all_stats see all");
    database.run("grant pg_read_all_stats to datastream_reader").await;
    let mut forgotten = database.pool.acquire().await.expect("a connection");
    let insert = "begin; insert into game.results (title_id, ended_at) values (1, now())";
    sqlx::raw_sql(insert).execute(&mut *forgotten).await.expect("an open transaction");
    eventually("a transaction that is old enough", || async {
        let found = findings(&reader, "transactions", &[]).await;
        found
            .iter()
            .any(|line| line.says.contains("held the lock that a writer needs to notify"))
            .then_some(())
    })
    .await;
    drop(forgotten.detach());
}

#[tokio::test]
async fn doctor_reports_a_publication_of_the_schema_and_the_remedy_unblocks_its_subscriber() {
    let cluster = DedicatedCluster::start_with(&[("wal_level", "logical")]);
    let database = game(&cluster.address()).await;
    let subscriber = TestDatabase::on(&cluster.address()).await;
    subscriber.run("drop schema datastream cascade; create schema game").await;
    subscriber
        .run(
            "create table game.results (result_id bigint primary key, title_id bigint, \
             ended_at timestamptz, payload jsonb); create table game.titles \
             (id bigint primary key, code text, title text, kind text); create table \
             game.\"Other Plays\" (\"Id\" bigint primary key, at timestamp, n int, \"it's\" text)",
        )
        .await;
    let parts = "create table game.parts (id bigint) partition by range (id); \
        create table game.part partition of game.parts for values from (0) to (10)";
    database.run(parts).await;
    // A role without usage of the game's schema gets the finding as well.
    let url = reader(&cluster, &database).await;
    assert_well(&findings(&url, "publications", &[]).await, "publications");
    database.run("create publication named for table game.results, datastream.trimmed").await;
    let found = findings(&url, "publications", &[]).await;
    told(&found, "warning", "publication named includes").follow(&database).await;
    assert_well(&findings(&url, "publications", &[]).await, "publications");
    database.run("drop publication named; create publication everything for all tables").await;
    let found = findings(&url, "publications", &[]).await;
    told(&found, "warning", "publication everything includes").follow(&database).await;
    database
        .run("create table game.later partition of game.parts for values from (10) to (20)")
        .await;
    let published = "select string_agg(tablename, ' ' order by tablename) from pg_publication_tables \
        where tablename in ('later', 'parts')";
    assert_eq!(database.text(published).await.as_deref(), Some("later"), "with its parent");
    // The subscriber lacks the table.
    database.run("drop table game.parts").await;
    assert_well(&findings(&url, "publications", &[]).await, "publications");
    database.run("select pg_create_logical_replication_slot('everything', 'pgoutput')").await;
    let subscribe = format!(
        "create subscription everything connection 'host=127.0.0.1 port={} user=postgres dbname={}' \
         publication everything with (create_slot = false, copy_data = false)",
        cluster.address().tcp_port,
        database.name
    );
    subscriber.run(&subscribe).await;
    database.run("insert into game.results (title_id, ended_at) values (1, now())").await;
    eventually("the round at the subscriber", || async {
        let count = subscriber.text("select count(*)::text from game.results").await;
        (count.as_deref() == Some("1")).then_some(())
    })
    .await;
    subscriber.run("drop subscription everything").await;
}

#[tokio::test]
async fn doctor_reports_an_id_that_two_attached_tables_share() {
    let database =
        migrated_game("create table dice (id bigint primary key, at timestamptz, n int)").await;
    attach(&database, &dice("dice", &["--extras-columns", "n"])).await;
    database.run("insert into dice values (9000000001, now(), 1)").await;
    assert_well(&findings(&database.url(), "ids", &[]).await, "ids");
    let same = "insert into games (slug, name, type) values ('crash', 'Crash', 'multiplier'); \
        insert into rounds (id, game_id, finished_at) select 9000000001, id, now() from games";
    database.run(same).await;
    let found = findings(&database.url(), "ids", &[]).await;
    told(&found, "failed", "both contain round 9000000001");
}

#[tokio::test]
async fn doctor_accepts_a_writable_server_if_the_url_asks_for_one() {
    let database = TestDatabase::new().await;
    for wanted in ["read-write", "primary"] {
        let joint = if database.url().contains('?') { '&' } else { '?' };
        let url = format!("{}{joint}target_session_attrs={wanted}", database.url());
        let output = testkit::binary::datastream(&["doctor"]).env("DATABASE_URL", url).run().await;
        assert!(output.stdout.contains("primary"), "{}{}", output.stdout, output.stderr);
        assert!(!output.stdout.contains("read-only"), "{}", output.stdout);
    }
}
