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
pub mod pgbouncer;
pub mod pinned;
pub mod round;
pub mod server;
pub mod sse;
pub mod wait;
pub mod ws;
pub mod wt;

pub use self::{
    cluster::DedicatedCluster,
    database::TestDatabase,
    fault_proxy::FaultProxy,
    http::{get, raw_http},
    pgbouncer::PgBouncer,
    pinned::Certificate,
    round::WireRound,
    server::TestServer,
    sse::SseClient,
    wait::{eventually, within},
    ws::WsClient,
    wt::WtClient,
};

/// A database with the sample games and a ready server on it.
pub async fn serving() -> (TestDatabase, TestServer) {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).start().await;
    (database, server)
}
