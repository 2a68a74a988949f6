//! `datastream doctor --wt-enabled`: the UDP port and the certificate.

use std::{net::UdpSocket, path::Path};

use wtransport::Identity;

use testkit::{
    TestDatabase,
    doctor::{assert_well, findings, run, told},
};

#[tokio::test]
async fn doctor_reports_a_udp_address_that_is_in_use_or_not_local() {
    let database = TestDatabase::new().await;
    let url = database.url();
    assert_well(&findings(&url, "webtransport", &[]).await, "webtransport");
    let on = |addr: &str| ["--wt-enabled".to_owned(), format!("--wt-addr={addr}")];
    let look = async |addr: &str| {
        let [one, two] = on(addr);
        findings(&url, "udp", &[&one, &two]).await
    };
    assert_well(&look("127.0.0.1:0").await, "udp");
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    let found = look(&addr).await;
    assert!(
        told(&found, "warning", "in use").remedy.contains("set DATASTREAM_WT_ADDR to another port")
    );
    let found = look("192.0.2.1:4433").await;
    let told = told(&found, "failed", "192.0.2.1:4433 (UDP): ");
    assert!(told.remedy.contains("DATASTREAM_WT_ADDR"), "{told:?}");
}

/// A certificate valid between these days from now, and its key.
async fn certificate(folder: &Path, from: i64, until: i64) -> [String; 2] {
    use wtransport::tls::self_signed::time::{Duration, OffsetDateTime};
    let day = |days| OffsetDateTime::now_utc() + Duration::days(days);
    let identity = Identity::self_signed_builder()
        .subject_alt_names(["localhost"])
        .validity_period(day(from), day(until))
        .build()
        .expect("a certificate");
    let [chain, key] = ["chain.pem", "key.pem"].map(|name| folder.join(name));
    identity.certificate_chain().store_pemfile(&chain).await.expect("a file");
    identity.private_key().store_secret_pemfile(&key).await.expect("a file");
    [format!("--wt-cert={}", chain.display()), format!("--wt-key={}", key.display())]
}

#[tokio::test]
async fn doctor_reports_an_invalid_an_expired_and_an_expiring_certificate() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let look = async |files: &[String; 2]| {
        let on = ["--wt-enabled", "--wt-addr=127.0.0.1:0", &files[0], &files[1]];
        findings(&url, "certificate", &on).await
    };
    let folder = tempfile::tempdir().expect("a folder");
    for (from, until, status, says) in [
        (-10, 80, "ok", "is valid until"),
        (-85, 5, "warning", "is valid until"),
        (-1, 5, "ok", "is valid until"),
        (-90, -1, "failed", "was valid until"),
    ] {
        let files = certificate(folder.path(), from, until).await;
        let found = look(&files).await;
        let told = told(&found, status, says);
        assert_eq!(told.remedy.contains("renew"), status != "ok", "{told:?}");
    }
    let nowhere = ["--wt-cert=/nowhere/chain.pem", "--wt-key=/nowhere/key.pem"].map(str::to_owned);
    let found = look(&nowhere).await;
    let told = told(&found, "failed", "/nowhere/chain.pem");
    assert!(told.remedy.contains("DATASTREAM_WT_CERT"), "{told:?}");
    let half = run(&url, "doctor --wt-enabled --wt-cert=/nowhere/chain.pem", &[]).await;
    assert_eq!(half.code, Some(2), "{}", half.stderr);
    assert!(half.stderr.contains("--wt-key"), "{}", half.stderr);
}
