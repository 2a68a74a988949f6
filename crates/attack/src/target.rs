//! The server that is attacked, and its database.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use testkit::{DedicatedCluster, TestDatabase, TestServer, WsClient, binary, eventually};
use tokio::process::Command;

use crate::{
    access::Access,
    attacks::LARGE_TABLE,
    options::{Attack, Options},
};

/// The game that is attacked.
pub(crate) const GAME: &str = "crash";
/// The game of the steady subscriber.
pub(crate) const OTHER_GAME: &str = "double";

/// The log is a pipe. Its reader stops after the line with the address, and keeps it open.
const UNREAD_LOG: &str = "d=$(mktemp -d); mkfifo $d/log; \
    (sed '/listening/q' <&3 >&2; rm -r $d; exec tail --pid=$$ -f /dev/null) 3<$d/log & \
    exec \"$0\" serve 2>$d/log";

pub(crate) struct Target {
    pub(crate) server: TestServer,
    pub(crate) database: TestDatabase,
    pub(crate) pid: u32,
    pub(crate) access: Access,
    /// From the start of the process.
    pub(crate) ready: Duration,
    /// Dropped last: it stops PostgreSQL.
    _cluster: DedicatedCluster,
}

impl Target {
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        let cluster = DedicatedCluster::start();
        let database = TestDatabase::on(&cluster.address()).await;
        let access = Access::of(options)?;
        let mut command = command(options, &database.url());
        command.envs(access.variables());
        if options.attack == Attack::LargeStart {
            database.run(LARGE_TABLE).await;
        }
        let begun = Instant::now();
        let server = TestServer::spawn(command).await;
        let pid = server.pid().context("the server has ended")?;
        let ready = Duration::ZERO;
        let mut target = Self { server, database, pid, access, ready, _cluster: cluster };
        eventually("/readyz to answer 200", || async {
            target.answers("/readyz").await.then_some(())
        })
        .await;
        target.ready = begun.elapsed();
        Ok(target)
    }

    /// Whether a request for this path is answered with 200.
    pub(crate) async fn answers(&self, path: &str) -> bool {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = self.access.exchange(self.address(), &request).await;
        answer.starts_with("HTTP/1.1 200 ")
    }

    /// A WebSocket, or the status of its refusal.
    pub(crate) async fn web_socket(&self, path: &str) -> Result<WsClient, u16> {
        self.access.web_socket(self.address(), path).await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.addr
    }
}

fn command(options: &Options, url: &str) -> Command {
    let program = options.program.clone().unwrap_or_else(binary::path);
    let limit = options.files.map(|files| format!("ulimit -n {files}; ")).unwrap_or_default();
    let serve = if options.unread_log { UNREAD_LOG } else { "exec \"$0\" serve" };
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{limit}{serve}")).arg(program);
    command.env_clear().kill_on_drop(true).current_dir("/");
    command.env("DATABASE_URL", url).env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0");
    command.envs(testkit::server::WEB_TRANSPORT);
    command.envs(options.variables.iter().map(|(name, value)| (name, value)));
    command
}
