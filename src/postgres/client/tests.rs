//! `sslmode` and failures, against a real server.

use std::time::Duration;

use futures_util::StreamExt;

use super::*;
use crate::{
    ops::shutdown::Shutdown,
    postgres::target::test_server::{self, TestServer},
};

/// Whether the connection is encrypted, or why it failed.
async fn encrypted(target: &PgTarget) -> Result<bool, String> {
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    query_text(target, sql).await.map(|answer| answer == "t")
}

async fn query_text(target: &PgTarget, sql: &str) -> Result<String, String> {
    let Link { client, mut messages } =
        connect(target, "listen", &[]).await.map_err(|error| error.to_string())?;
    let shutdown = Shutdown::default();
    let driver = shutdown.spawn(async move { while messages.next().await.is_some() {} });
    let rows = client.simple_query(sql).await.expect(sql);
    drop(client);
    driver.await.expect("the messages end with the client");
    let text = rows.iter().find_map(|row| match row {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(text.expect("a row").to_owned())
}

#[tokio::test]
async fn sslmode_means_what_it_means_to_libpq() {
    let server = TestServer::start();
    for (role, host, parameters, expected) in test_server::SSLMODES {
        let outcome = encrypted(&server.target(role, host, parameters)).await;
        match expected {
            Ok(expected) => assert_eq!(outcome, Ok(*expected), "{role} {host} {parameters}"),
            Err(part) => {
                let error = outcome.expect_err(parameters);
                assert!(error.contains(part), "{role} {host} {parameters}: {error}");
            }
        }
    }
    assert_eq!(encrypted(&server.superuser()).await, Ok(false), "a socket has no TLS");
}

#[tokio::test]
async fn a_session_is_named_and_runs_at_read_committed() {
    let server = TestServer::start();
    let target = server.target("postgres", "localhost", "options=-c%20lock_timeout%3D9s");
    let sql = "select concat_ws(' ', current_setting('application_name'), \
               current_setting('default_transaction_isolation'), current_setting('lock_timeout'), \
               current_setting('tcp_user_timeout'))";
    let settings = query_text(&target, sql).await;
    assert_eq!(settings.as_deref(), Ok("datastream listen read committed 9s 10000"));
}

#[tokio::test]
async fn a_failure_names_the_target_the_reason_and_the_remedy() {
    let server = TestServer::start();
    for (user, expected) in [
        ("secret:wrong", "password authentication failed for user \"secret\". Set the password"),
        ("secret", "password missing"),
        ("nobody", ". Create the role, or allow it in pg_hba.conf"),
    ] {
        let target = server.target(user, "127.0.0.1", "");
        let error = connect(&target, "listen", &[]).await.map(|_| ()).expect_err(user);
        assert!(error.is_final(), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_skipped_after_the_timeout() {
    let (_listener, target) = test_server::silent();
    let error = connect(&target, "listen", &[]).await.map(|_| ()).expect_err("silence");
    assert!(error.to_string().contains("no answer within 200ms"), "{error}");
    assert!(!error.is_final());
    let server = TestServer::start();
    let mut both = server.target("postgres", "localhost", "");
    both.hosts.insert(0, target.hosts[0].clone());
    both.connect_timeout = Duration::from_secs(2);
    assert!(encrypted(&both).await.is_ok());
}
