//! PgBouncer in transaction mode: every transaction uses any free server connection.

use std::{
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::Stdio,
};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use super::{TestDatabase, cluster::free_port, eventually};

/// The paths on Debian and on other systems.
const PROGRAMS: [&str; 2] = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"];

/// A pooler in front of a test's database; dropping it ends the process.
#[derive(Debug)]
pub struct PgBouncer {
    _child: Child,
    port: u16,
    database: String,
}

impl PgBouncer {
    /// With its default configuration: it refuses unknown startup parameters.
    pub async fn before(database: &TestDatabase) -> Option<Self> {
        Self::with(database, "").await
    }

    /// With additional configuration lines. `None` if PgBouncer is not installed.
    pub async fn with(database: &TestDatabase, more: &str) -> Option<Self> {
        let Some(program) = PROGRAMS.iter().find(|path| Path::new(path).exists()) else {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI has no PgBouncer");
            eprintln!("skipped: PgBouncer is not installed");
            return None;
        };
        let port = free_port();
        let upstream = database.address.tcp_port;
        // One connection more than a client needs, so that two clients share connections.
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={upstream} user=postgres\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 3\n{more}\n"
        );
        let file = std::env::temp_dir().join(format!("datastream-tests-pgbouncer-{port}.ini"));
        std::fs::write(&file, config).expect("a file");
        let mut command = std::process::Command::new(program);
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            // PgBouncer refuses to run as root.
            command.uid(65_534).gid(65_534);
        }
        let child = Command::from(command).kill_on_drop(true).spawn().expect("pgbouncer");
        eventually("PgBouncer to listen", || async {
            TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
        })
        .await;
        let _ = std::fs::remove_file(file);
        Some(Self { _child: child, port, database: database.url_through(port) })
    }

    /// The database's URL through PgBouncer.
    pub fn url(&self) -> String {
        self.database.clone()
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}
