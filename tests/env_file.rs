//! The file `.env`: often another program's, in this folder or a parent.

use std::{fs, path::Path};

use testkit::{TestDatabase, TestServer, binary::datastream};

const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n+x/yz==\n\
    -----END PRIVATE KEY-----";
const NOT_AN_ASSIGNMENT: &str = "is not NAME=value and is ignored";

fn folder_with(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(".env"), text).expect("a file");
    folder
}

/// Serves with the URL and the address of the file alone.
async fn served_from(folder: &Path) -> TestServer {
    let server = TestServer::on("").without("DATABASE_URL").without("DATASTREAM_HTTP_ADDR");
    server.current_dir(folder).start().await
}

fn count(log: &[String], text: &str) -> usize {
    log.iter().filter(|line| line.contains(text)).count()
}

#[tokio::test]
async fn names_of_other_programs_are_ignored_and_ours_among_them_are_read() {
    let database = TestDatabase::new().await;
    for (others, warnings) in [
        ("APP_NAME=My Game\nSECRET=$a b c\nMOTTO=Bob's \"game\n".to_owned(), 0),
        (format!("KEY=\"{PEM}\"\n"), 0),
        (format!("KEY={PEM}\n"), 1),
        ("this is no assignment\n# but this is a comment\nneither is this\n".to_owned(), 1),
    ] {
        let text = format!(
            "{others}DATABASE_URL='{}'\nDATASTREAM_HTTP_ADDR=127.0.0.1:0\n",
            database.url()
        );
        let folder = folder_with(&text);
        let log = served_from(folder.path()).await.log();
        assert_eq!(count(&log, NOT_AN_ASSIGNMENT), warnings, "{others}: {log:?}");
        assert_eq!(count(&log, "unknown"), 0, "{log:?}");
    }
}

#[tokio::test]
async fn a_file_of_a_parent_folder_is_not_read() {
    let database = TestDatabase::new().await;
    let folder = folder_with("DATASTREAM_HISTORY=nonsense\nno assignment\n");
    let child = folder.path().join("child");
    fs::create_dir(&child).expect("a folder");
    let log = TestServer::on(database.url()).current_dir(&child).start().await.log();
    assert_eq!(count(&log, NOT_AN_ASSIGNMENT), 0, "{log:?}");
}

#[tokio::test]
async fn help_and_version_succeed_whatever_the_file_holds() {
    for text in ["no assignment", "DATABASE_URL=a b", "DATASTREAM_HISTORY=x", "\u{0}\u{1}=\n=\n"] {
        let folder = folder_with(text);
        for args in [&["--help"][..], &["--version"], &["serve", "--help"], &["tail", "--help"]] {
            let output = datastream(args).current_dir(folder.path()).run().await;
            assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{text:?} {args:?}");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join(".env")).expect("a folder");
    let output = datastream(&["--help"]).current_dir(folder.path()).run().await;
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
}

#[tokio::test]
async fn a_value_of_our_names_that_cannot_be_read_is_bad_usage_and_is_not_shown() {
    let folder = folder_with("# comment\nDATABASE_URL=postgres://u:hush hush@h/db\n");
    let output = datastream(&["serve"]).current_dir(folder.path()).run().await;
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    assert!(output.stderr.contains(".env: line 2: the value of DATABASE_URL"), "{}", output.stderr);
    assert!(!output.stderr.contains("hush"), "{}", output.stderr);
}

#[tokio::test]
async fn an_unknown_variable_is_a_warning_with_the_nearest_name() {
    let database = TestDatabase::new().await;
    let expected = "DATASTREAM_HEARTBEATS is unknown and has no effect. Remove it, or use \
        DATASTREAM_HEARTBEAT.";
    let server = TestServer::on(database.url()).env("DATASTREAM_HEARTBEATS", "1s").start().await;
    assert_eq!(count(&server.log(), expected), 1, "{:?}", server.log());
    let text = format!(
        "DATABASE_URL='{}'\nDATASTREAM_HTTP_ADDR=127.0.0.1:0\nDATASTREAM_HEARTBEATS=1s\n",
        database.url()
    );
    let folder = folder_with(&text);
    let log = served_from(folder.path()).await.log();
    assert_eq!(count(&log, expected), 1, "{log:?}");
    let output = datastream(&["doctor"]).env("DATABASE_URL", database.url());
    let output = output.env("DATASTREAM_WT_ENABEL", "true").run().await;
    assert!(output.stderr.contains("use DATASTREAM_WT_ENABLED."), "{}", output.stderr);
}

#[tokio::test]
async fn variables_of_a_kubernetes_service_are_not_warned_of() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url())
        .env("DATASTREAM_SERVICE_HOST", "10.0.0.1")
        .env("DATASTREAM_SERVICE_PORT", "3000")
        .env("DATASTREAM_PORT", "tcp://10.0.0.1:3000")
        .env("DATASTREAM_PORT_3000_TCP_ADDR", "10.0.0.1")
        .start()
        .await;
    assert_eq!(count(&server.log(), "unknown"), 0, "{:?}", server.log());
}
