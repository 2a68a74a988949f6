//! A game that publishes all of its tables: its subscriber continues.

use testkit::{
    DedicatedCluster, TestDatabase,
    binary::{datastream, program},
    cluster::installation,
    eventually,
    game::{GAME, attach, contract, psql, refused, run},
};

const PUBLISHED: &str = "-c datastream.published=on";

async fn publisher(cluster: &DedicatedCluster) -> TestDatabase {
    let database = TestDatabase::empty_on(&cluster.address()).await;
    database.run(GAME).await;
    database.run("alter table public.rounds replica identity full; create publication everything for all tables").await;
    database
}

#[tokio::test]
async fn a_publication_for_all_tables_is_refused_before_any_change() {
    let cluster = DedicatedCluster::start_with(&[("wal_level", "logical")]);
    let database = publisher(&cluster).await;
    let told = [
        refused(&database, &contract(&[])).await,
        run(&database, "migrate", &["--no-tables"]).await.stderr,
        refused(&database, &contract(&["--dry-run"])).await,
    ];
    for told in told {
        assert!(told.contains("publication everything is for all tables"), "{told}");
        assert!(told.contains("docs/existing-database.md"), "{told}");
    }
    assert_eq!(database.text("select to_regnamespace('datastream')::text").await, None);
    database
        .run("drop publication everything; create publication own for table game.results")
        .await;
    attach(&database, &contract(&[])).await;
}

/// Copies the schema and its tables to a subscriber.
async fn copy_schema(from: &str, to: &TestDatabase) {
    let pg_dump = installation().bin().join("pg_dump").display().to_string();
    let output = program(&pg_dump, &["-s", "-n", "datastream", from]).run().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), output.stdout).expect("written");
    let path = file.path().display().to_string();
    let output = psql(to, &["-v", "ON_ERROR_STOP=1", "-f", &path]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}

#[tokio::test]
async fn a_subscriber_that_has_the_schema_continues_to_replicate() {
    let cluster = DedicatedCluster::start_with(&[("wal_level", "logical")]);
    let database = publisher(&cluster).await;
    let subscriber = TestDatabase::empty_on(&cluster.address()).await;
    subscriber.run(GAME).await;
    subscriber.run("truncate game.titles cascade; truncate public._sqlx_migrations").await;
    // Within one cluster the slot must exist first.
    database.run("select pg_create_logical_replication_slot('everything', 'pgoutput')").await;
    let subscription = format!(
        "create subscription everything connection 'host=127.0.0.1 port={} user=postgres dbname={}' \
         publication everything with (create_slot = false)",
        database.address.tcp_port, database.name
    );
    subscriber.run(&subscription).await;
    let migrate = datastream(&["migrate", "--no-tables"]).env("DATABASE_URL", database.url());
    let output = migrate.env("PGOPTIONS", PUBLISHED).run().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    copy_schema(&database.url(), &subscriber).await;
    attach(&database, &contract(&[])).await;
    database.run("insert into game.results (title_id, ended_at) values (1, now())").await;
    eventually("the round at the subscriber", || async {
        let rounds = subscriber.text("select count(*)::text from game.results").await;
        (rounds.as_deref() == Some("1")).then_some(())
    })
    .await;
    // Dropping the subscription during its initial copy, within one cluster, would wait for itself.
    eventually("all tables to be copied", || async {
        let copied = "select bool_and(srsubstate = 'r')::text from pg_subscription_rel";
        (subscriber.text(copied).await.as_deref() == Some("true")).then_some(())
    })
    .await;
    subscriber.run("drop subscription everything").await;
}
