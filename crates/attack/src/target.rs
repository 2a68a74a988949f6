//! The server that is attacked, and its database.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use testkit::{DedicatedCluster, TestDatabase, TestServer, binary};
use tokio::process::Command;

use crate::options::Options;

/// The game that is attacked.
pub(crate) const GAME: &str = "crash";
/// The game of the steady subscriber.
pub(crate) const OTHER_GAME: &str = "double";

pub(crate) struct Target {
    pub(crate) server: TestServer,
    pub(crate) database: TestDatabase,
    pub(crate) pid: u32,
    /// Dropped last: it stops PostgreSQL.
    _cluster: DedicatedCluster,
}

impl Target {
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        let cluster = DedicatedCluster::start();
        let database = TestDatabase::on(&cluster.address()).await;
        let server = TestServer::spawn(command(options, &database.url())).await;
        server.ready().await;
        let pid = server.pid().context("the server has ended")?;
        Ok(Self { server, database, pid, _cluster: cluster })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.addr
    }
}

fn command(options: &Options, url: &str) -> Command {
    let program = options.program.clone().unwrap_or_else(binary::path);
    let limit = options.files.map(|files| format!("ulimit -n {files}; ")).unwrap_or_default();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{limit}exec \"$0\" serve")).arg(program);
    command.env_clear().kill_on_drop(true).current_dir("/");
    command.env("DATABASE_URL", url).env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0");
    command.env("DATASTREAM_WT_ENABLED", "true").env("DATASTREAM_WT_ADDR", "127.0.0.1:0");
    command.envs(options.variables.iter().map(|(name, value)| (name, value)));
    command
}
