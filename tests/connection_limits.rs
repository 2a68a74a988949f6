//! Few connections: the server says at its start what it needs, and a client's 503 has a cause.

use testkit::{
    DedicatedCluster, TestDatabase, TestServer, WsClient,
    cluster::Address,
    doctor::{findings, told},
    eventually, get,
};

/// A role with few connections, whose remedy for rights was followed.
async fn limited(database: &TestDatabase, limit: u32) -> String {
    let url = database.url();
    told(&findings(&url, "rights", &[]).await, "warning", "is a superuser").follow(database).await;
    let role = format!("{}_limited", database.name);
    let make = format!(
        "create role {role} login inherit in role datastream_reader connection limit {limit}"
    );
    database.run(&make).await;
    let url = Address::tcp_url(&database.name, database.address.tcp_port);
    url.replace("postgres@", &format!("{role}@"))
}

#[tokio::test]
async fn a_role_with_few_connections_is_reported_at_the_start_and_by_doctor() {
    let cluster = DedicatedCluster::start();
    let database = TestDatabase::on(&cluster.address()).await;
    let url = limited(&database, 2).await;
    let server = TestServer::on(&url).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let round = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round, "one connection is enough to stream");
    let says = format!("the role {}_limited may have 2 connections", database.name);
    let log = server.log().join("\n");
    assert!(log.contains(&says) && log.contains("serve uses up to 12"), "{log}");
    assert!(log.contains("connection limit 16"), "{log}");
    // Maintenance has the other connection: the pool of clients' reads cannot open one.
    eventually("a second connection", || async {
        let open = "select count(*)::text from pg_stat_activity where usename like '%_limited'";
        (database.text(open).await.as_deref() == Some("2")).then_some(())
    })
    .await;
    let refused = get(&server.http("/rounds/crash")).await;
    refused.assert_problem(503);
    assert!(!refused.body.contains("limited"), "{}", refused.body);
    eventually("the cause in the log", || async {
        let log = server.log().join("\n");
        let cause = "no connection within 5s: cannot connect to";
        (log.contains(cause) && log.contains("too many connections for role")).then_some(())
    })
    .await;
    drop(server);
    eventually("the sessions to end", || async {
        let open = "select count(*)::text from pg_stat_activity where usename like '%_limited'";
        (database.text(open).await.as_deref() == Some("0")).then_some(())
    })
    .await;
    let found = findings(&url, "connections", &[]).await;
    told(&found, "failed", &says).follow(&database).await;
    let found = findings(&url, "connections", &[]).await;
    assert!(found.iter().all(|line| line.status == "ok"), "{found:?}");
}

#[tokio::test]
async fn a_database_with_few_connections_is_reported() {
    let cluster = DedicatedCluster::start();
    let database = TestDatabase::on(&cluster.address()).await;
    let url = limited(&database, 100).await;
    database.run(&format!("alter database {} connection limit 4", database.name)).await;
    let found = findings(&url, "connections", &[]).await;
    let says = format!("the database {} may have 4 connections", database.name);
    told(&found, "warning", &says).follow(&database).await;
    let found = findings(&url, "connections", &[]).await;
    assert!(found.iter().all(|line| line.status == "ok"), "{found:?}");
}

#[tokio::test]
async fn a_server_with_few_connections_is_reported_at_the_start() {
    let cluster = DedicatedCluster::start_with(&[("max_connections", "20")]);
    let database = TestDatabase::on(&cluster.address()).await;
    let mut taken = Vec::new();
    for _ in 0..9 {
        taken.push(database.pool.acquire().await.expect("a connection"));
    }
    let log = TestServer::on(database.url()).start().await.log().join("\n");
    assert!(log.contains("of 20 connections are free, and serve uses up to 12"), "{log}");
    drop(taken);
}
