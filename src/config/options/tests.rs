//! Flags and variables become the configuration.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: ServeOptions,
}

fn config(flags: &[&str]) -> Result<ServeConfig, String> {
    let flags = ["datastream", "--database-url=host=h user=u"].iter().chain(flags);
    let line = Line::try_parse_from(flags).map_err(|error| error.to_string())?;
    line.options.resolve(|_| None).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = config(&[]).expect("defaults");
    assert_eq!(config.http_addr.to_string(), "0.0.0.0:3000");
    assert_eq!(config.heartbeat, Duration::from_secs(15));
    assert_eq!(
        (config.history.get(), config.resume_limit, config.max_connections),
        (1024, 10_000, 100_000)
    );
    assert_eq!((config.max_round, config.resume_bytes), (1 << 20, 16 << 20));
    assert!((64 << 20..=2 << 30).contains(&config.memory));
    assert_eq!(config.retention, Duration::from_secs(24 * 3600));
    assert_eq!(config.shutdown_grace, Duration::from_secs(10));
    assert_eq!(config.allowed_origins, AllowedOrigins::Any);
    assert!(config.web_transport.is_none());
    let RoundSource::Database { database, read_only: None } = config.source else {
        panic!("{:?}", config.source)
    };
    assert_eq!(database.listen, database.target);
}

#[test]
fn nonsense_is_refused_with_the_name_of_the_option() {
    for (flags, expected) in [
        (&["--heartbeat=0s"][..], "--heartbeat"),
        (&["--heartbeat=soon"], "--heartbeat"),
        (&["--history=0"], "--history"),
        (&["--http-addr=localhost"], "--http-addr"),
        (&["--max-connections=0"], "--max-connections"),
        (&["--allowed-origins=game.example"], "--allowed-origins"),
        (&["--resume-limit=-1"], "--resume-limit"),
        (&["--resume-bytes=0"], "--resume-bytes"),
        (&["--memory=1KiB"], "--memory"),
        (&["--max-round=big"], "--max-round"),
        (&["--memory=64MiB", "--max-round=9MiB"], "--max-round (DATASTREAM_MAX_ROUND)"),
        (&["--wt-cert=/c.pem"], "--wt-cert (DATASTREAM_WT_CERT) needs --wt-key"),
        (&["--wt-key=/k.pem"], "--wt-key (DATASTREAM_WT_KEY) needs --wt-cert"),
        (&["--listen-url=mysql://x"], "--listen-url (DATASTREAM_LISTEN_URL)"),
    ] {
        let error = config(flags).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn web_transport_is_on_with_the_bare_flag_and_takes_its_files() {
    let config = config(&["--wt-enabled", "--wt-cert=/c.pem", "--wt-key=/k.pem"]).expect("on");
    let web_transport = config.web_transport.expect("on");
    assert_eq!(web_transport.addr.to_string(), "[::]:4433");
    assert_eq!(web_transport.certificate.expect("files").key, PathBuf::from("/k.pem"));
}

#[test]
fn debug_output_has_no_password() {
    let flags = [
        "datastream",
        "--database-url=postgres://u:hush@h/db",
        "--listen-url=postgres://u:hush@h/db",
    ];
    let line = Line::try_parse_from(flags).expect("parsed");
    assert!(!format!("{:?}", line.options).contains("hush"));
    let config = line.options.resolve(|_| None).expect("resolved");
    assert!(!format!("{config:?}").contains("hush"));
}
