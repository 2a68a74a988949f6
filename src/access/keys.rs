//! The keys in use: replaced when their source changes, and asked for again when a token names an
//! unknown one.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{
    fetch::FETCH_TIMEOUT,
    key_set::KeySet,
    lease::CurrentKeys,
    sources::{self, FileKeys},
};
use crate::{
    config::{AccessConfig, KeySource},
    ops::{shutdown::Shutdown, telemetry::metrics::Metrics},
};

/// Tokens with unknown keys, which anybody can make, cause one fetch in this time.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// The configured keys cannot be used. The message is one line and names the option.
#[derive(Debug, thiserror::Error)]
#[error("--auth-keys (DATASTREAM_AUTH_KEYS): {}: {why}", path.display())]
pub(crate) struct UnusableKeys {
    path: PathBuf,
    why: String,
}

impl UnusableKeys {
    pub(super) fn new(path: PathBuf, why: &dyn std::fmt::Display) -> Self {
        Self { path, why: why.to_string() }
    }
}

/// The keys in use. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Keys(Arc<KeysState>);

#[derive(Debug)]
struct KeysState {
    /// `None` until they were read for the first time.
    set: ArcSwapOption<KeySet>,
    current: CurrentKeys,
    /// When the set was last found to be the one of its source. `None` for a secret.
    confirmed: Mutex<Option<Instant>>,
    asks: Mutex<Asks>,
    asked: Notify,
    /// Counts the attempts to read the source.
    attempts: watch::Sender<u64>,
    metrics: Metrics,
}

/// The fetches that tokens with unknown keys have caused.
#[derive(Debug, Default)]
struct Asks {
    /// Only a URL can be asked: the others say when they change.
    can_ask: bool,
    last: Option<Instant>,
    is_pending: bool,
}

impl Asks {
    /// Begins an attempt, unless one is under way or the last one is too recent.
    fn begin(&mut self, now: Instant) -> bool {
        let is_recent = self.last.is_some_and(|last| now.duration_since(last) < ASK_EVERY);
        if !self.can_ask || self.is_pending || is_recent {
            return false;
        }
        *self = Self { last: Some(now), is_pending: true, ..*self };
        true
    }
}

impl Keys {
    /// Reads the keys, or begins to fetch them. A file must have keys from the start.
    pub(super) fn start(
        config: &AccessConfig,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> Result<Self, UnusableKeys> {
        let keys = Self::empty(metrics);
        match &config.keys {
            KeySource::Secret(secret) => {
                let set = KeySet::of_secret(secret.as_bytes());
                let unusable = |error| UnusableKeys::new("the secret".into(), &error);
                keys.install(set.map_err(unusable)?);
            }
            KeySource::File(path) => {
                let (file, set) = FileKeys::read(path.clone())?;
                keys.replace(set);
                shutdown.spawn(file.follow(keys.clone(), shutdown.clone()));
            }
            KeySource::Url(url) => {
                keys.0.asks.lock().can_ask = true;
                let follow = sources::follow_url(url.clone(), keys.clone(), shutdown.clone());
                shutdown.spawn(follow);
            }
        }
        Ok(keys)
    }

    fn empty(metrics: &Metrics) -> Self {
        Self(Arc::new(KeysState {
            set: ArcSwapOption::empty(),
            current: CurrentKeys::default(),
            confirmed: Mutex::new(None),
            asks: Mutex::default(),
            asked: Notify::new(),
            attempts: watch::Sender::new(0),
            metrics: metrics.clone(),
        }))
    }

    /// Replaces the keys. Streams of those that are gone end at the next check of their leases.
    pub(super) fn replace(&self, set: KeySet) {
        self.install(set);
        self.confirm();
    }

    fn install(&self, set: KeySet) {
        self.0.metrics.token_keys.set(i64::try_from(set.len()).unwrap_or(i64::MAX));
        self.0.current.replace(set.numbers());
        self.0.set.store(Some(Arc::new(set)));
    }

    /// Notes that the keys in use are those of their source.
    pub(super) fn confirm(&self) {
        *self.0.confirmed.lock() = Some(Instant::now());
    }

    /// The set; `None` until it was read for the first time.
    pub(super) fn set(&self) -> Option<Arc<KeySet>> {
        self.0.set.load_full()
    }

    pub(super) fn current(&self) -> &CurrentKeys {
        &self.0.current
    }

    /// How long ago the keys were last compared with their source.
    pub(super) fn age(&self) -> Duration {
        self.0.confirmed.lock().map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// Asks the source again because a token names an unknown key, and waits for the answer. All
    /// callers share one attempt. Does nothing if the last one is too recent.
    pub(super) async fn look_again(&self) {
        let mut attempts = self.0.attempts.subscribe();
        if !self.ask() {
            return;
        }
        // The task that fetches ends only in a shutdown.
        let _ = timeout(FETCH_TIMEOUT + Duration::from_secs(1), attempts.changed()).await;
    }

    /// Whether an attempt is under way, or begins now.
    fn ask(&self) -> bool {
        let mut asks = self.0.asks.lock();
        if asks.begin(Instant::now()) {
            self.0.asked.notify_one();
        }
        asks.is_pending
    }

    /// Waits until a token names an unknown key.
    pub(super) async fn asked(&self) {
        self.0.asked.notified().await;
    }

    /// Counts an attempt to read the source, and wakes those who wait for it.
    pub(super) fn note_attempt(&self, succeeded: bool) {
        self.0.metrics.count_key_read(succeeded);
        self.0.asks.lock().is_pending = false;
        self.0.attempts.send_modify(|attempts| *attempts += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_cause_one_fetch_in_30_s_and_then_another() {
        let (start, mut asks) = (Instant::now(), Asks { can_ask: true, ..Asks::default() });
        assert!(asks.begin(start));
        asks.is_pending = false;
        assert!(!asks.begin(start + Duration::from_millis(29_999)));
        assert!(asks.begin(start + Duration::from_secs(30)));
        let much_later = start + Duration::from_secs(3600);
        assert!(!asks.begin(much_later), "one is under way");
    }

    #[tokio::test]
    async fn the_task_that_fetches_is_woken_again_for_a_key_that_is_rotated_again() {
        let keys = Keys::empty(&Metrics::default());
        keys.0.asks.lock().can_ask = true;
        assert!(keys.ask());
        keys.asked().await;
        keys.note_attempt(true);
        assert!(!keys.ask(), "the last one is too recent");
        keys.0.asks.lock().last = Instant::now().checked_sub(ASK_EVERY);
        assert!(keys.ask());
        keys.asked().await;
    }
}
