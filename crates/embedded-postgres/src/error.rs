//! What can go wrong with a cluster of our own, each in one line that says what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a cluster could not be found, made, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server programs anywhere.
    #[error(
        "no PostgreSQL server found: install one (Debian, Ubuntu: apt-get install postgresql), \
         run `make demo`, which fetches one, or set PG_BIN to the folder of initdb and postgres"
    )]
    NotInstalled,
    /// The folder that was named has no server programs.
    #[error("{} has no initdb and postgres: set PG_BIN to the folder that has both", .0.display())]
    NoServer(PathBuf),
    /// Root, and nobody to run the server as.
    #[error("PostgreSQL does not run as root: add a user `postgres` (useradd --system postgres)")]
    NoAccount,
    /// Root, and a folder that the server's user may not enter.
    #[error(
        "PostgreSQL runs as the user {account}, who cannot enter {}: keep {} elsewhere, for \
         example in /var/lib", folder.display(), path.display()
    )]
    Barred {
        /// Who runs the server.
        account: String,
        /// What it must reach: the data directory or its programs.
        path: PathBuf,
        /// The closed folder on the way.
        folder: PathBuf,
    },
    /// A data directory made by another major version.
    #[error(
        "{} was made by PostgreSQL {theirs}, this is {ours}: set PG_BIN to the programs of \
         PostgreSQL {theirs}, or remove the folder to start anew", data_dir.display()
    )]
    OtherMajor {
        /// The data directory.
        data_dir: PathBuf,
        /// Its version.
        theirs: String,
        /// The programs' version.
        ours: String,
    },
    /// Another live process runs this data directory.
    #[error("{} is in use by another process: stop it, or choose another data directory", .0.display())]
    InUse(PathBuf),
    /// `initdb` failed; its own words.
    #[error("initdb failed: {0}")]
    Initdb(String),
    /// The server did not come up, or did not go; its log's last lines.
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
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_path_buf(), source }
    }
}
