//! What WebTransport needs of this machine: a certificate that lasts, and its UDP port.

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

/// A certificate of an authority is usually renewed 30 days before its end: with a week left,
/// something does not renew it.
const CA_DAYS_LEAST: i64 = 7;
/// One that browsers accept by its hash lasts 14 days at most.
const PINNED_DAYS_LEAST: i64 = 1;

/// Both; a word where it is off.
pub(super) fn look(config: Option<&WebTransportConfig>) -> Vec<Check> {
    let Some(config) = config else {
        return vec![Check::new("webtransport", Status::Ok, "off (DATASTREAM_WT_ENABLED)")];
    };
    vec![certificate(config.certificate.as_ref()), port(config.addr)]
}

fn certificate(files: Option<&CertificateFiles>) -> Check {
    const NAME: &str = "certificate";
    let Some(files) = files else {
        let says = "self-signed, made at each start and renewed in time; pages pin its hash";
        return Check::new(NAME, Status::Ok, says);
    };
    match Certificates::load(Some(files.clone())) {
        Ok(certificates) => expiry(&certificates.published().borrow(), files),
        Err(error) => Check::new(NAME, Status::Failed, error.to_string()).remedy(
            "name PEM files that this user may read: the chain in DATASTREAM_WT_CERT, its key in \
             DATASTREAM_WT_KEY",
        ),
    }
}

fn expiry(published: &PublishedCertificate, files: &CertificateFiles) -> Check {
    let left = published.not_after - Utc::now();
    let least = if published.value.is_some() { PINNED_DAYS_LEAST } else { CA_DAYS_LEAST };
    let status = match left {
        left if left <= TimeDelta::zero() => Status::Failed,
        left if left < TimeDelta::days(least) => Status::Warning,
        _ => Status::Ok,
    };
    let tense = if status == Status::Failed { "was" } else { "is" };
    let chain = files.chain.display();
    let says = format!("{chain} {tense} valid until {}", published.not_after);
    let remedy = format!("renew {chain}; a server that runs reads it again by itself");
    Check::new("certificate", status, says).remedy(remedy)
}

/// Binds it for a moment.
fn port(addr: SocketAddr) -> Check {
    const NAME: &str = "udp";
    let says = |what: &dyn std::fmt::Display| format!("{addr} (UDP): {what}");
    match UdpSocket::bind(addr) {
        Ok(_) => Check::new(NAME, Status::Ok, says(&"free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let check = Check::new(NAME, Status::Warning, says(&"in use"));
            check.remedy("nothing if that is the server itself; else another DATASTREAM_WT_ADDR")
        }
        Err(error) => Check::new(NAME, Status::Failed, says(&error)).remedy(advice(&error)),
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "take a port above 1023 in DATASTREAM_WT_ADDR, or give CAP_NET_BIND_SERVICE"
        }
        _ => "set DATASTREAM_WT_ADDR to an address of this machine, such as 0.0.0.0:4433",
    }
}
