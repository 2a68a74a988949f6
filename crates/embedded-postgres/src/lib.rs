//! An embedded PostgreSQL cluster, for `datastream demo` and for tests.
//!
//! This crate runs `initdb`, then `postgres` on a Unix socket in a folder with a short path, and
//! optionally on 127.0.0.1. The server is ready 20 ms after its start. (`pg_ctl -w` takes 120 ms,
//! because it checks every 100 ms.) If this process is root, the server runs as `postgres` or
//! `nobody`.
//!
//! The server does not outlive this process. A guard process reads a pipe whose other end only this
//! process holds. When the pipe closes, even after SIGKILL, the guard stops the server. If the guard
//! was killed too, the next start stops the server that still uses the data directory.

mod error;
mod installation;
mod server;

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};

pub use error::Error;
pub use installation::Installation;
pub use server::Stop;
use server::{Launch, Server};

/// The superuser. Every local user may log in as it (`trust`): store no valuable data in the cluster.
pub const SUPERUSER: &str = "postgres";

/// A Unix socket address holds 107 bytes, including `/.s.PGSQL.65535` after the folder.
const SOCKET_DIR_BYTES_MAX: usize = 90;

/// Settings of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether commits survive a power failure and the data directory survives this value. If not,
    /// fsync is off and the directory is removed at the end.
    pub durable: bool,
    /// The port on 127.0.0.1; without one the cluster has only its Unix socket.
    pub tcp_port: Option<u16>,
    /// More server settings, by name.
    pub extra: Vec<(String, String)>,
}

/// A data directory and, between `start` and `stop`, its server. Dropping it stops the server.
#[derive(Debug)]
pub struct Cluster {
    installation: Installation,
    data_dir: PathBuf,
    socket_dir: PathBuf,
    settings: Settings,
    server: Option<Server>,
    /// Held for the life of this value: two processes must not use the same data directory.
    _lock: File,
}

impl Cluster {
    /// Opens the data directory; `initdb` creates it if it does not exist.
    pub fn create_or_open(
        installation: Installation,
        data_dir: &Path,
        settings: Settings,
    ) -> Result<Self, Error> {
        let data_dir = std::path::absolute(data_dir)
            .map_err(|source| Error::io("resolve", data_dir, source))?;
        let lock = lock(&data_dir)?;
        installation.check_reach(&data_dir)?;
        match fs::read_to_string(data_dir.join("PG_VERSION")) {
            Ok(major) => check_major(&installation, &data_dir, major.trim())?,
            Err(_) => initdb(&installation, &data_dir, settings.durable)?,
        }
        let socket_dir = socket_dir(&installation)?;
        Ok(Self { installation, data_dir, socket_dir, settings, server: None, _lock: lock })
    }

    /// Starts the server and waits until it accepts connections. Does nothing if it runs.
    pub fn start(&mut self) -> Result<(), Error> {
        if self.is_running() {
            return Ok(());
        }
        self.server = None;
        self.server = Some(Server::start(&self.launch())?);
        Ok(())
    }

    /// Stops the server and waits for its exit. Does nothing if it does not run.
    pub fn stop(&mut self, how: Stop) -> Result<(), Error> {
        match self.server.take() {
            Some(server) => server.stop(how),
            None => Ok(()),
        }
    }

    /// A URL of the Unix socket, for libpq, sqlx and tokio-postgres.
    pub fn url(&self, database: &str) -> String {
        let folder = self.socket_dir.to_string_lossy().replace('/', "%2F");
        format!("postgresql://{SUPERUSER}@{folder}:{}/{database}", self.port())
    }

    /// A TCP URL, if the cluster has a port.
    pub fn tcp_url(&self, database: &str) -> Option<String> {
        let port = self.settings.tcp_port?;
        Some(format!("postgresql://{SUPERUSER}@127.0.0.1:{port}/{database}"))
    }

    /// The folder of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The port, which is also part of the socket's name.
    pub fn port(&self) -> u16 {
        self.settings.tcp_port.unwrap_or(5432)
    }

    /// Whether the server runs.
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(Server::is_running)
    }

    /// The process id of the server while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    /// The installation in use.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// The server's log since its last start.
    pub fn log_path(&self) -> PathBuf {
        self.data_dir.join("server.log")
    }

    fn launch(&self) -> Launch<'_> {
        Launch {
            installation: &self.installation,
            data_dir: &self.data_dir,
            socket_dir: &self.socket_dir,
            log: self.log_path(),
            port: self.port(),
            settings: &self.settings,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let how = if self.settings.durable { Stop::Fast } else { Stop::Immediate };
        // Drop cannot return an error; the guard and the next start clean up after a failed stop.
        let _ = self.stop(how);
        let _ = fs::remove_dir_all(&self.socket_dir);
        if !self.settings.durable {
            let _ = fs::remove_dir_all(&self.data_dir);
            let _ = fs::remove_file(lock_path(&self.data_dir));
        }
    }
}

/// Beside the data directory, because `initdb` requires an empty folder.
fn lock_path(data_dir: &Path) -> PathBuf {
    data_dir.with_added_extension("lock")
}

fn lock(data_dir: &Path) -> Result<File, Error> {
    let path = lock_path(data_dir);
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(|source| Error::io("create", parent, source))?;
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(|source| Error::io("create", &path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(data_dir.to_path_buf())),
        Err(TryLockError::Error(source)) => Err(Error::io("lock", &path, source)),
    }
}

fn check_major(installation: &Installation, data_dir: &Path, theirs: &str) -> Result<(), Error> {
    if installation.major() == theirs {
        return Ok(());
    }
    Err(Error::OtherMajor {
        data_dir: data_dir.to_path_buf(),
        theirs: theirs.to_owned(),
        ours: installation.version().to_owned(),
    })
}

/// Creates the cluster in another folder and renames it: an incomplete data directory is never opened.
fn initdb(installation: &Installation, data_dir: &Path, durable: bool) -> Result<(), Error> {
    let partial = data_dir.with_added_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    make_dir(installation, &partial)?;
    let mut command = installation.command("initdb");
    command.arg("-D").arg(&partial).args(["-A", "trust", "-E", "UTF8", "--no-locale"]);
    command.args(["-U", SUPERUSER, "--wal-segsize=1"]);
    if !durable {
        command.arg("--no-sync"); // 0.4 s instead of 1 s
    }
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|e| Error::io("run", &installation.bin().join("initdb"), e))?;
    if !output.status.success() {
        let _ = fs::remove_dir_all(&partial);
        return Err(Error::Initdb(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let _ = fs::remove_dir(data_dir); // an empty one may be there
    fs::rename(&partial, data_dir).map_err(|source| Error::io("create", data_dir, source))
}

/// A folder with a short path; in `/tmp` if the path of the temporary folder is too long or the server
/// cannot access it.
fn socket_dir(installation: &Installation) -> Result<PathBuf, Error> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("datastream-{}-{count}", std::process::id());
    let mut path = std::env::temp_dir().join(&name);
    let too_long = path.as_os_str().len() > SOCKET_DIR_BYTES_MAX;
    if too_long || installation.check_reach(&path).is_err() {
        path = Path::new("/tmp").join(&name);
    }
    let _ = fs::remove_dir_all(&path); // of an earlier process with our id
    make_dir(installation, &path)?;
    Ok(path)
}

/// Creates a folder that only the server's user may access.
fn make_dir(installation: &Installation, path: &Path) -> Result<(), Error> {
    let owned = DirBuilder::new().mode(0o700).create(path).and_then(|()| {
        installation.account().map_or(Ok(()), |a| chown(path, Some(a.uid), Some(a.gid)))
    });
    owned.map_err(|source: io::Error| Error::io("create", path, source))
}

#[cfg(test)]
mod tests;
