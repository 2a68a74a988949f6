//! What the tests stand on: a PostgreSQL cluster, a database each, the real binary, real clients.
//!
//! Nothing here waits for a time to pass: every wait is for a state or an event, with a limit that
//! fails with the line of the test that waited.

pub(crate) mod binary;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod doctor;
pub(crate) mod fault_proxy;
pub(crate) mod game;
pub(crate) mod http;
pub(crate) mod pgbouncer;
pub(crate) mod pinned;
pub(crate) mod round;
pub(crate) mod server;
pub(crate) mod sse;
pub(crate) mod wait;
pub(crate) mod ws;
pub(crate) mod wt;

pub(crate) use self::{
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

/// A database with the sample games and a server on it that is ready: what most tests need.
pub(crate) async fn serving() -> (TestDatabase, TestServer) {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).start().await;
    (database, server)
}
