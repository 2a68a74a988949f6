//! PgBouncer in transaction mode: every transaction gets whatever session of the server is free.

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

/// Debian's place, and others'.
const PROGRAMS: [&str; 2] = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"];

/// A pooler before a test's database; it ends with the value.
#[derive(Debug)]
pub struct PgBouncer {
    _child: Child,
    port: u16,
    database: String,
}

impl PgBouncer {
    /// As it comes: what it does not know is refused when a session starts.
    pub async fn before(database: &TestDatabase) -> Option<Self> {
        Self::with(database, "").await
    }

    /// With more lines of configuration. `None`, and a word, where it is not installed.
    pub async fn with(database: &TestDatabase, more: &str) -> Option<Self> {
        let Some(program) = PROGRAMS.iter().find(|path| Path::new(path).exists()) else {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI has no PgBouncer");
            eprintln!("left out: PgBouncer is not installed");
            return None;
        };
        let port = free_port();
        let upstream = database.address.tcp_port;
        // One session more than a client needs: so that two of them get in each other's way.
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
            // It refuses to run as root.
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

    /// The database's URL by way of it.
    pub fn url(&self) -> String {
        self.database.clone()
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}
