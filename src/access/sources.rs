//! Where keys come from while the server runs: a file that may change, and a URL.

use std::{
    fs::{self, Metadata},
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::time::sleep;

use super::{
    fetch::{FetchError, Fetcher},
    key_set::{DOCUMENT_BYTES_MAX, KeySet, KeySetError, Origin},
    keys::{Keys, UnusableKeys},
};
use crate::{config::KeyUrl, ops::shutdown::Shutdown};

/// The time between two checks of the file. A check is one call of `stat`. A file watcher would
/// miss changes of Kubernetes secrets, which replace a symbolic link.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The time between two fetches. Each waits up to a tenth more or less, so that the servers of a
/// fleet do not fetch together.
const REFRESH: Duration = Duration::from_secs(300);
/// The delays after failed fetches double from the first to the second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Modification time and size of a file.
type Stamp = Option<(SystemTime, u64)>;

/// A file with keys.
#[derive(Debug)]
pub(super) struct FileKeys {
    path: PathBuf,
    /// The stamp of the file when it was last read.
    read: Stamp,
    /// Whether the keys in use are those that were read then.
    is_in_use: bool,
}

/// Why a file has no keys.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Content(#[from] KeySetError),
}

impl FileKeys {
    pub(super) fn read(path: PathBuf) -> Result<(Self, KeySet), UnusableKeys> {
        let read = stamp(&path);
        match load(&path) {
            Ok(set) => Ok((Self { path, read, is_in_use: true }, set)),
            Err(error) => Err(UnusableKeys::new(path, &error)),
        }
    }

    /// Replaces the keys when the file changes. A file without usable keys is logged once, and the
    /// keys in use stay.
    pub(super) async fn follow(mut self, keys: Keys, shutdown: Shutdown) {
        loop {
            let stamp = tokio::select! {
                () = shutdown.requested() => return,
                stamp = self.changed(&keys) => stamp,
            };
            self.read = stamp;
            let loaded = load(&self.path);
            keys.note_attempt(loaded.is_ok());
            self.is_in_use = loaded.is_ok();
            match loaded {
                Ok(set) => {
                    tracing::info!(keys = set.len(), "read the changed file of keys for tokens");
                    keys.replace(set);
                }
                Err(error) => {
                    let file = self.path.display();
                    tracing::error!(%file, %error, "cannot use the changed keys: keeping the old ones");
                }
            }
        }
    }

    /// Waits until the file has changed, and then not changed for one interval: a writer may not
    /// have finished.
    async fn changed(&self, keys: &Keys) -> Stamp {
        let mut last = self.read;
        loop {
            sleep(CHECK_INTERVAL).await;
            let now = stamp(&self.path);
            if now == last && now != self.read {
                return now;
            }
            if now == self.read && self.is_in_use {
                keys.confirm();
            }
            last = now;
        }
    }
}

/// Blocks for one call of `stat`, which costs less than a move to another thread.
fn stamp(path: &Path) -> Stamp {
    let stamp = |meta: Metadata| meta.modified().ok().map(|modified| (modified, meta.len()));
    fs::metadata(path).ok().and_then(stamp)
}

fn load(path: &Path) -> Result<KeySet, FileError> {
    let mut document = Vec::new();
    let limit = DOCUMENT_BYTES_MAX as u64 + 1;
    fs::File::open(path)?.take(limit).read_to_end(&mut document)?;
    Ok(KeySet::parse(&document, Origin::File)?)
}

/// Fetches the keys at once, then at intervals, and when a token names an unknown one. After a
/// failure, the last good set stays.
pub(super) async fn follow_url(url: KeyUrl, keys: Keys, shutdown: Shutdown) {
    let fetcher = Fetcher::new(url);
    let mut retry = RETRY_MIN;
    loop {
        let pause = tokio::select! {
            () = shutdown.requested() => return,
            fetched = fetch(&fetcher, &keys) => match fetched {
                Ok(()) => {
                    retry = RETRY_MIN;
                    REFRESH
                }
                Err(_) => {
                    let pause = retry;
                    retry = (retry * 2).min(RETRY_MAX);
                    pause
                }
            },
        };
        tokio::select! {
            () = shutdown.requested() => return,
            () = keys.asked() => {}
            () = sleep(pause.mul_f64(0.9 + fastrand::f64() / 5.0)) => {}
        }
    }
}

async fn fetch(fetcher: &Fetcher, keys: &Keys) -> Result<(), FetchError> {
    let fetched = fetcher.fetch().await;
    let outcome = match fetched {
        Ok(set) => {
            if keys.set().is_none() {
                tracing::info!(keys = set.len(), "fetched the keys for tokens");
            }
            keys.replace(set);
            Ok(())
        }
        Err(error) => {
            let kept = keys.set().map_or(0, |set| set.len());
            tracing::warn!(%error, kept, "cannot fetch the keys for tokens: trying again");
            Err(error)
        }
    };
    keys.note_attempt(outcome.is_ok());
    outcome
}
