//! Self-signed certificates: one in use, and the next one, whose hash is published before its use.
//!
//! A certificate is made six days before its use and used for six days. One of its 13 days is left
//! then, for pages that fetched its hash late. A page that knows both hashes can connect for at
//! least six days.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use wtransport::{Identity, tls::self_signed::time::OffsetDateTime};

use super::{CertificateError, Pair};

/// Names in the certificate. Browsers that check the hash ignore them.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// The clock of a client may be late.
const BACKDATED: TimeDelta = TimeDelta::hours(1);
/// Validity from now on. With the hour before, it is below the 14 days that browsers allow.
const VALID: TimeDelta = TimeDelta::days(13);
/// How long each certificate is used.
const USED: TimeDelta = TimeDelta::days(6);
/// The time between two checks of the clock, because the machine may sleep or its clock may be set.
/// A rotation may be a day late, but not six.
const CHECK_INTERVAL: Duration = Duration::from_secs(3600);

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

    /// Waits until the next certificate is in use.
    pub(super) async fn rotated(&mut self) {
        loop {
            let left = (self.rotates_at - Utc::now()).to_std().unwrap_or_default();
            tokio::time::sleep(left.min(CHECK_INTERVAL)).await;
            match self.rotate(Utc::now()) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot make a certificate: retrying");
                    tokio::time::sleep(CHECK_INTERVAL).await;
                }
            }
        }
    }

    /// Rotates if it is time. Returns whether it did.
    fn rotate(&mut self, now: DateTime<Utc>) -> Result<bool, CertificateError> {
        if now < self.rotates_at {
            return Ok(false);
        }
        // After a long sleep of the machine, the next certificate may have expired as well.
        let stale = self.next.not_after() < now + USED;
        let (current, next) = (if stale { Some(make(now)?) } else { None }, make(now)?);
        let announced = std::mem::replace(&mut self.next, next);
        self.current = current.unwrap_or(announced);
        self.rotates_at = now + USED;
        tracing::info!(wt.not_after = %self.current.not_after(), "rotated the certificate");
        Ok(true)
    }
}

fn make(now: DateTime<Utc>) -> Result<Pair, CertificateError> {
    let to_offset = |time: DateTime<Utc>| {
        OffsetDateTime::from_unix_timestamp(time.timestamp())
            .map_err(|error| CertificateError::Unusable(error.to_string()))
    };
    let identity = Identity::self_signed_builder()
        .subject_alt_names(NAMES)
        .validity_period(to_offset(now - BACKDATED)?, to_offset(now + VALID)?)
        .build()
        .map_err(|_| {
            CertificateError::Unusable("the certificate has an invalid name".to_owned())
        })?;
    let chain = identity.certificate_chain().as_slice();
    let chain = chain.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect();
    let key = PrivatePkcs8KeyDer::from(identity.private_key().secret_der().to_vec());
    Pair::new(chain, key.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_certificate_is_published_before_its_use() {
        let start = Utc::now();
        let mut own = SelfSigned::new(start).expect("certificates");
        let (first, second) = (own.pair().hash(), own.next().hash());
        assert_ne!(first, second);
        assert!(!own.rotate(start + USED - TimeDelta::seconds(1)).expect("no error"));
        assert_eq!(own.pair().hash(), first);
        assert!(own.rotate(start + USED).expect("no error"));
        assert_eq!(own.pair().hash(), second);
        assert_ne!(own.next().hash(), second);
        assert!(own.rotate(start + USED * 2).expect("no error"));
        assert!(own.pair().not_after() > start + USED * 3);
    }

    #[test]
    fn a_certificate_can_be_pinned_and_is_valid_under_14_days() {
        let own = SelfSigned::new(Utc::now()).expect("certificates");
        assert!(own.pair().is_pinnable());
        assert!(VALID + BACKDATED < TimeDelta::days(14));
    }

    #[test]
    fn after_a_long_sleep_a_new_certificate_is_used() {
        let start = Utc::now();
        let mut own = SelfSigned::new(start).expect("certificates");
        let late = start + TimeDelta::days(30);
        assert!(own.rotate(late).expect("no error"));
        assert!(own.pair().not_after() > late + USED);
    }
}
