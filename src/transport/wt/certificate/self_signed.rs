//! Certificates made here: one in use, the next one known to pages before it is used.
//!
//! A certificate is made six days before its turn and used for six days, so of its 13 days one is
//! left when it goes, for pages that took its hash late. A page that knows both hashes can connect
//! for six days at least.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use wtransport::{Identity, tls::self_signed::time::OffsetDateTime};

use super::{CertificateError, Pair};

/// Names in the certificate; browsers that go by the hash do not look at them.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// A page's clock may be behind ours.
const BACKDATED: TimeDelta = TimeDelta::hours(1);
/// From now; with the hour before less than the 14 days that browsers allow.
const VALID: TimeDelta = TimeDelta::days(13);
/// How long each one is used.
const USED: TimeDelta = TimeDelta::days(6);
/// The clock is looked at so often: a machine that slept, or whose clock was set, is a day late
/// with no harm done, but not six.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// The current certificate and the next.
#[derive(Debug)]
pub(super) struct SelfSigned {
    current: Pair,
    next: Pair,
    rotates_at: DateTime<Utc>,
}

impl SelfSigned {
    pub(super) fn new(now: DateTime<Utc>) -> Result<Self, CertificateError> {
        Ok(Self { current: make(now)?, next: make(now)?, rotates_at: now + USED })
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.current
    }

    pub(super) fn next(&self) -> &Pair {
        &self.next
    }

    /// Waits until the next certificate's turn has come.
    pub(super) async fn rotated(&mut self) {
        loop {
            let left = (self.rotates_at - Utc::now()).to_std().unwrap_or_default();
            tokio::time::sleep(left.min(LOOK_EVERY)).await;
            match self.rotate(Utc::now()) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "no new certificate could be made: retrying");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    /// Puts the next one to use if it is time.
    fn rotate(&mut self, now: DateTime<Utc>) -> Result<bool, CertificateError> {
        if now < self.rotates_at {
            return Ok(false);
        }
        // After a long sleep of the machine the next one may be as old as the current.
        let stale = self.next.not_after() < now + USED;
        let (current, next) = (if stale { Some(make(now)?) } else { None }, make(now)?);
        let announced = std::mem::replace(&mut self.next, next);
        self.current = current.unwrap_or(announced);
        self.rotates_at = now + USED;
        tracing::info!(wt.not_after = %self.current.not_after(), "the certificate was rotated");
        Ok(true)
    }
}

fn make(now: DateTime<Utc>) -> Result<Pair, CertificateError> {
    let moment = |time: DateTime<Utc>| {
        OffsetDateTime::from_unix_timestamp(time.timestamp())
            .map_err(|error| CertificateError::Unusable(error.to_string()))
    };
    let identity = Identity::self_signed_builder()
        .subject_alt_names(NAMES)
        .validity_period(moment(now - BACKDATED)?, moment(now + VALID)?)
        .build()
        .map_err(|_| CertificateError::Unusable("a name is not one".to_owned()))?;
    let chain = identity.certificate_chain().as_slice();
    let chain = chain.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect();
    let key = PrivatePkcs8KeyDer::from(identity.private_key().secret_der().to_vec());
    Pair::new(chain, key.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_certificate_is_announced_before_its_turn() {
        let start = Utc::now();
        let mut own = SelfSigned::new(start).expect("certificates");
        let (first, second) = (own.pair().hash(), own.next().hash());
        assert_ne!(first, second);
        assert!(!own.rotate(start + USED - TimeDelta::seconds(1)).expect("a look"));
        assert_eq!(own.pair().hash(), first);
        assert!(own.rotate(start + USED).expect("a turn"));
        assert_eq!(own.pair().hash(), second);
        assert_ne!(own.next().hash(), second);
        assert!(own.rotate(start + USED * 2).expect("a turn"));
        assert!(own.pair().not_after() > start + USED * 3);
    }

    #[test]
    fn a_certificate_can_be_pinned_and_is_valid_under_14_days() {
        let own = SelfSigned::new(Utc::now()).expect("certificates");
        assert!(own.pair().is_pinnable());
        assert!(VALID + BACKDATED < TimeDelta::days(14));
    }

    #[test]
    fn after_a_long_sleep_a_fresh_certificate_is_used() {
        let start = Utc::now();
        let mut own = SelfSigned::new(start).expect("certificates");
        let late = start + TimeDelta::days(30);
        assert!(own.rotate(late).expect("a turn"));
        assert!(own.pair().not_after() > late + USED);
    }
}
