//! Several nodes on one database: each streams every round, and a client may change nodes.

use sqlx::{Postgres, Transaction};

use testkit::{TestDatabase, TestServer, WsClient, database_alone, round::ids};

/// A round of crash in a transaction that stays open.
async fn unfinished(database: &TestDatabase, id: i64) -> Transaction<'static, Postgres> {
    let mut transaction = database.pool.begin().await.expect("a transaction");
    let insert = "insert into rounds (id, game_id, finished_at) \
        select $1, id, now() from games where slug = 'crash'";
    sqlx::query(insert).bind(id).execute(&mut *transaction).await.expect("an insert");
    transaction
}

async fn commit(transaction: Transaction<'static, Postgres>) {
    transaction.commit().await.expect("a commit");
}

#[tokio::test]
async fn a_client_that_changes_nodes_loses_no_round_that_the_other_node_had_not_sent() {
    let database = TestDatabase::migrated_with(&["--capture", "poll"]).await;
    database.run(include_str!("../sql/sample_games.sql")).await;
    let one = TestServer::on(database.url()).start().await;
    one.counts("datastream_other_nodes 0").await;
    let other = TestServer::on(database.url()).start().await;
    one.counts("datastream_other_nodes 1").await;
    other.counts("datastream_other_nodes 1").await;
    let mut client = WsClient::connect(other.ws("/ws/crash")).await;
    let late = unfinished(&database, 7001).await;
    let early = unfinished(&database, 7002).await;
    // `one` finds both rounds in one poll, in the order of transactions. `other` finds them one by one.
    one.freeze().await;
    commit(early).await;
    assert_eq!(client.next_round().await.round_id, 7002);
    drop(client);
    commit(late).await;
    one.signal("CONT");
    let mut steady = WsClient::connect(one.ws("/ws")).await;
    steady.rounds_until(database.finish("double", "{}").await).await;
    let mut client = WsClient::connect(one.ws("/ws/crash?after=7002")).await;
    assert_eq!(client.next_round().await.round_id, 7001);
}

#[tokio::test]
async fn a_node_that_is_alone_again_resumes_its_later_rounds_without_repeats() {
    let (_cluster, database) = database_alone().await;
    let one = TestServer::on(database.url()).start().await;
    let other = TestServer::on(database.url()).start().await;
    one.counts("datastream_other_nodes 1").await;
    let mut steady = WsClient::connect(one.ws("/ws/crash")).await;
    let shared = [unfinished(&database, 7001).await, unfinished(&database, 7002).await];
    // One poll finds both, so that the other server may have sent them in the other order.
    one.freeze().await;
    for transaction in shared {
        commit(transaction).await;
    }
    one.signal("CONT");
    assert_eq!(ids(&steady.rounds(2).await), [7001, 7002]);
    other.kill().await;
    one.counts("datastream_other_nodes 0").await;
    let (first, second) = (unfinished(&database, 8001).await, unfinished(&database, 8002).await);
    commit(first).await;
    assert_eq!(steady.next_round().await.round_id, 8001);
    commit(second).await;
    assert_eq!(steady.next_round().await.round_id, 8002);
    // The other node may have sent 7001 after 7002; only this one has sent 8001.
    let mut client = WsClient::connect(one.ws("/ws/crash?after=7002")).await;
    assert_eq!(ids(&client.rounds(3).await), [7001, 8001, 8002]);
    let mut client = WsClient::connect(one.ws("/ws/crash?after=8002")).await;
    let last = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, last);
}
