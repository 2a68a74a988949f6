//! What WebTransport needs on this machine: a valid certificate, and its UDP port.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket},
};

use chrono::{TimeDelta, Utc};

use crate::{
    config::{CertificateFiles, WebTransportConfig},
    postgres::check::{Check, Status},
    transport::wt::certificate::{Certificates, PublishedCertificate},
};

/// A certificate of an authority is usually renewed 30 days before it expires. With a week left,
/// the renewal has failed.
const CA_DAYS_MIN: i64 = 7;
/// A certificate that browsers accept by its hash is valid for 14 days at most.
const PINNED_DAYS_MIN: i64 = 1;

/// Both checks, or one line if WebTransport is off.
pub(super) fn check(config: Option<&WebTransportConfig>) -> Vec<Check> {
    let Some(config) = config else {
        return vec![Check::new("webtransport", Status::Ok, "off (DATASTREAM_WT_ENABLED)")];
    };
    vec![certificate(config.certificate.as_ref()), port(config.addr)]
}

fn certificate(files: Option<&CertificateFiles>) -> Check {
    const NAME: &str = "certificate";
    let Some(files) = files else {
        let says =
            "self-signed, created at each start and renewed before it expires; pages pin its hash";
        return Check::new(NAME, Status::Ok, says);
    };
    match Certificates::load(Some(files.clone())) {
        Ok(certificates) => expiry(&certificates.published().borrow(), files),
        Err(error) => Check::new(NAME, Status::Failed, error.to_string()).remedy(
            "set DATASTREAM_WT_CERT to the PEM file of the chain and DATASTREAM_WT_KEY to its \
             key, both readable for this user",
        ),
    }
}

fn expiry(published: &PublishedCertificate, files: &CertificateFiles) -> Check {
    let left = published.not_after - Utc::now();
    let min_days = if published.value.is_some() { PINNED_DAYS_MIN } else { CA_DAYS_MIN };
    let status = match left {
        left if left <= TimeDelta::zero() => Status::Failed,
        left if left < TimeDelta::days(min_days) => Status::Warning,
        _ => Status::Ok,
    };
    let tense = if status == Status::Failed { "was" } else { "is" };
    let chain = files.chain.display();
    let says = format!("{chain} {tense} valid until {}", published.not_after);
    let remedy = format!("renew {chain}; a running server reloads it");
    Check::new("certificate", status, says).remedy(remedy)
}

/// Binds the port and releases it.
fn port(addr: SocketAddr) -> Check {
    const NAME: &str = "udp";
    let says = |what: &dyn std::fmt::Display| format!("{addr} (UDP): {what}");
    match UdpSocket::bind(addr) {
        Ok(_) => Check::new(NAME, Status::Ok, says(&"free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let check = Check::new(NAME, Status::Warning, says(&"in use"));
            check.remedy(
                "if the running server uses it, ignore this; otherwise set DATASTREAM_WT_ADDR to \
                 another port",
            )
        }
        Err(error) => Check::new(NAME, Status::Failed, says(&error)).remedy(bind_advice(&error)),
    }
}

fn bind_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "set DATASTREAM_WT_ADDR to a port above 1023, or grant CAP_NET_BIND_SERVICE"
        }
        _ => "set DATASTREAM_WT_ADDR to an address of this machine, such as 0.0.0.0:4433",
    }
}
