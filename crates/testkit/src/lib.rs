//! Tools for the tests: a PostgreSQL cluster, a database per test, the real binary, real clients.
//!
//! No helper sleeps for a fixed time. Each waits for a state or an event, with a time limit whose
//! failure names the line of the test.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod binary;
pub mod cluster;
pub mod database;
pub mod doctor;
pub mod fault_proxy;
pub mod game;
pub mod http;
pub mod jwks;
pub mod nats;
pub mod pgbouncer;
pub mod pinned;
pub mod quic;
pub mod round;
pub mod server;
pub mod sse;
pub mod tls;
pub mod token;
pub mod wait;
pub mod ws;
pub mod wt;
pub mod wt_request;

pub use self::{
    cluster::DedicatedCluster,
    database::TestDatabase,
    fault_proxy::FaultProxy,
    http::{get, raw_http},
    jwks::JwksServer,
    pgbouncer::PgBouncer,
    pinned::Certificate,
    quic::QuicClient,
    round::WireRound,
    server::TestServer,
    sse::SseClient,
    tls::TestCertificate,
    token::Signer,
    wait::{eventually, within},
    ws::WsClient,
    wt::WtClient,
    wt_request::wt_request,
};

/// A database with the sample games and a ready server on it.
pub async fn serving() -> (TestDatabase, TestServer) {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).start().await;
    (database, server)
}

/// The same on a cluster of its own, for a test that an open transaction of another test would
/// disturb: a snapshot names the transactions in progress of the whole cluster. The cluster stops when
/// it is dropped, which must be last.
pub async fn serving_alone() -> (DedicatedCluster, TestDatabase, TestServer) {
    let (cluster, database) = database_alone().await;
    let server = TestServer::on(database.url()).start().await;
    (cluster, database, server)
}

/// A migrated database on a cluster of its own, likewise. Autovacuum would open transactions, too.
pub async fn database_alone() -> (DedicatedCluster, TestDatabase) {
    let cluster = DedicatedCluster::start_with(&[("autovacuum", "off")]);
    let database = TestDatabase::on(&cluster.address()).await;
    (cluster, database)
}
