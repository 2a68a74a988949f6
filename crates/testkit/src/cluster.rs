//! PostgreSQL: one cluster shared by all tests, and dedicated ones for tests that stop or kill it.

use std::{
    fs::OpenOptions,
    io::Write,
    iter,
    net::TcpListener,
    ops::Range,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use embedded_postgres::{Cluster, Installation, Settings, Stop};

use super::wait::LIMIT;

/// The addresses of a server: Unix socket and TCP port.
#[derive(Clone, Debug)]
pub struct Address {
    socket: String,
    pub tcp_port: u16,
}

impl Address {
    fn of(cluster: &Cluster) -> Self {
        Self { socket: cluster.url(""), tcp_port: cluster.port() }
    }

    /// The URL of the Unix socket.
    pub fn url(&self, database: &str) -> String {
        format!("{}{database}", self.socket)
    }

    /// A TCP URL, of the server or of a proxy on another port.
    pub fn tcp_url(database: &str, port: u16) -> String {
        format!("postgresql://postgres@127.0.0.1:{port}/{database}")
    }
}

/// Each test's database adds 10 MB to the write-ahead log. With segments of 1 MB, initdb chooses a limit of
/// 64 MB, which is a checkpoint for every sixth test.
const FEW_CHECKPOINTS: [(&str, &str); 1] = [("max_wal_size", "1GB")];

/// The shared cluster. It is never dropped: its guard removes it when the test process ends.
pub fn shared() -> &'static Address {
    static SHARED: OnceLock<(Address, Mutex<Cluster>)> = OnceLock::new();
    let start = || {
        let cluster = start_new(&FEW_CHECKPOINTS);
        (Address::of(&cluster), Mutex::new(cluster))
    };
    &SHARED.get_or_init(start).0
}

/// The installation under test; `PG_BIN` selects another.
pub fn installation() -> Installation {
    Installation::find().unwrap_or_else(|error| panic!("{error}"))
}

fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("datastream-tests-{}-{count}", std::process::id()))
}

fn start_new(extra: &[(&str, &str)]) -> Cluster {
    start_at(&new_folder(), extra, |_| {})
}

/// Starts a server on a folder that `fill` may fill first.
fn start_at(data_dir: &Path, extra: &[(&str, &str)], fill: impl FnOnce(&Path)) -> Cluster {
    let mut settings = Settings { durable: false, tcp_port: Some(free_port()), extra: vec![] };
    let ours = [("max_connections", "300"), ("log_min_messages", "warning"), ("jit", "off")];
    for (name, value) in ours.iter().chain(extra) {
        settings.extra.push(((*name).to_owned(), (*value).to_owned()));
    }
    fill(data_dir);
    let mut cluster = Cluster::create_or_open(installation(), data_dir, settings)
        .unwrap_or_else(|error| panic!("{error}"));
    cluster.start().unwrap_or_else(|error| panic!("{error}"));
    cluster
}

fn run(command: &mut Command) {
    assert!(command.status().expect("a program").success(), "{command:?}");
}

/// Below the ephemeral ports (32768 and up by default), so that no connection or server of another
/// test takes the port of a cluster between two starts.
const PORTS: Range<u16> = 12_000..32_000;

/// A free port; this process returns each port only once.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    let given = || first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let count = u32::from(PORTS.end - PORTS.start);
    let mut ports = iter::repeat_with(|| PORTS.start + (given() % count) as u16);
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(free).expect("a free port")
}

/// A dedicated cluster for a test that stops or kills PostgreSQL, or that other tests would disturb.
#[derive(Debug)]
pub struct DedicatedCluster {
    cluster: Cluster,
}

impl DedicatedCluster {
    pub fn start() -> Self {
        Self { cluster: start_new(&[]) }
    }

    pub fn start_with(extra: &[(&str, &str)]) -> Self {
        Self { cluster: start_new(extra) }
    }

    /// A standby of another cluster.
    pub fn standby_of(primary: &Self) -> Self {
        Self { cluster: start_at(&new_folder(), &[], |folder| primary.copy_to(folder)) }
    }

    pub fn address(&self) -> Address {
        Address::of(&self.cluster)
    }

    /// Runs as the user of the server, because that user must own the base backup.
    fn copy_to(&self, folder: &Path) {
        let owner = std::fs::metadata(self.cluster.socket_dir()).expect("a folder");
        let mut copy = Command::new(self.cluster.installation().bin().join("pg_basebackup"));
        copy.arg("-d").arg(self.cluster.url("postgres")).arg("-D").arg(folder);
        copy.args(["-R", "-X", "stream", "-c", "fast", "--no-sync"]).current_dir("/");
        copy.uid(owner.uid()).gid(owner.gid());
        let output = copy.output().expect("pg_basebackup");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // The last line counts. A newer pg_basebackup names options that an older server refuses.
        let follow = format!("primary_conninfo = '{}'\n", self.cluster.url("postgres"));
        let settings = OpenOptions::new().append(true).open(folder.join("postgresql.auto.conf"));
        settings.and_then(|mut file| file.write_all(follow.as_bytes())).expect("the settings");
    }

    /// Copies the files of a stopped server; returns the path of the copy.
    pub fn keep_copy(&self) -> PathBuf {
        let copy = new_folder();
        run(Command::new("cp").arg("-a").arg(self.folder()).arg(&copy));
        copy
    }

    /// Replaces the files of the server by such a copy.
    pub fn put_back(&self, copy: &Path) {
        run(Command::new("rm").arg("-rf").arg(self.folder()));
        run(Command::new("mv").arg(copy).arg(self.folder()));
    }

    fn folder(&self) -> PathBuf {
        self.cluster.log_path().parent().expect("a folder").to_path_buf()
    }

    /// What PostgreSQL has logged.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.cluster.log_path()).expect("a log");
        String::from_utf8_lossy(&log).into_owned()
    }

    pub fn stop(&mut self, how: Stop) {
        self.cluster.stop(how).expect("a stop");
    }

    pub fn restart(&mut self, how: Stop) {
        self.stop(how);
        self.start_again();
    }

    /// Retries, because PostgreSQL does not start until the last process of a killed server has ended.
    pub fn start_again(&mut self) {
        let begun = Instant::now();
        while let Err(error) = self.cluster.start() {
            assert!(begun.elapsed() < LIMIT, "a start: {error:?}");
        }
    }
}
