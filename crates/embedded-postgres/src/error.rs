//! Errors of an embedded cluster. Each message is one line and says what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

/// PostgreSQL could not be found, or a cluster could not be created, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server programs were found.
    #[error(
        "no PostgreSQL server found: install one (Debian, Ubuntu: apt-get install postgresql), \
         run `make demo`, which fetches one, or set PG_BIN to the folder of initdb and postgres"
    )]
    NotInstalled,
    /// The given folder contains no server programs.
    #[error("{} has no initdb and postgres: set PG_BIN to the folder that has both", .0.display())]
    NoServer(PathBuf),
    /// The process runs as root, and there is no user to run the server as.
    #[error("PostgreSQL does not run as root: add a user `postgres` (useradd --system postgres)")]
    NoAccount,
    /// The process runs as root, and the server's user may not enter a folder.
    #[error(
        "PostgreSQL runs as the user {account}, who cannot enter {}: keep {} elsewhere, for \
         example in /var/lib", folder.display(), path.display()
    )]
    Barred {
        /// The user that runs the server.
        account: String,
        /// The path that the server needs: its data directory or its programs.
        path: PathBuf,
        /// The inaccessible parent folder.
        folder: PathBuf,
    },
    /// Another major version created the data directory.
    #[error(
        "{} was created by PostgreSQL {theirs}, this is {ours}: set PG_BIN to the programs of \
         PostgreSQL {theirs}, or remove the folder to start with a new cluster", data_dir.display()
    )]
    OtherMajor {
        /// The data directory.
        data_dir: PathBuf,
        /// Its version.
        theirs: String,
        /// The programs' version.
        ours: String,
    },
    /// Another running process uses this data directory.
    #[error("{} is in use by another process: stop it, or choose another data directory", .0.display())]
    InUse(PathBuf),
    /// `initdb` failed; its error output.
    #[error("initdb failed: {0}")]
    Initdb(String),
    /// The server did not start or did not stop; the last lines of its log.
    #[error("PostgreSQL did not {what}: {log}")]
    Server {
        /// `start` or `stop`.
        what: &'static str,
        /// The end of its log.
        log: String,
    },
    /// A file operation failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_path_buf(), source }
    }
}
