//! `sslmode` and failures as sqlx has them, against a real server.

use std::time::Duration;

use sqlx::Row;

use super::*;
use crate::postgres::target::test_server::{self, TestServer};

async fn encrypted(target: &PgTarget) -> Result<bool, String> {
    let connection = connect(target, "query", &[]).await;
    let mut connection = connection.map_err(|error| error.to_string())?;
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    Ok(sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect(sql))
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
    let target = server.target("postgres", "localhost", "options=-c%20statement_timeout%3D9s");
    let sql = "select concat_ws(' ', current_setting('application_name'), \
               current_setting('transaction_isolation'), \
               current_setting('statement_timeout'), current_setting('lock_timeout'))";
    let pool = crate::postgres::pool::Pool::lazy(&target, "query", 1).expect("a pool");
    let row = pool.fetch_one(sqlx::query(sql)).await.expect(sql);
    assert_eq!(row.get::<String, _>(0), "datastream query read committed 9s 2s");
}

#[tokio::test]
async fn a_failure_names_the_target_the_reason_and_the_remedy() {
    let server = TestServer::start();
    let target = server.target("secret:wrong", "127.0.0.1", "");
    let error = connect(&target, "query", &[]).await.expect_err("a wrong password").to_string();
    assert!(error.contains("password authentication failed"), "{error}");
    assert!(error.contains(". Set the password") && !error.contains("wrong"), "{error}");
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_skipped_after_the_timeout() {
    let (_listener, target) = test_server::silent();
    let error = connect(&target, "query", &[]).await.expect_err("silence").to_string();
    assert!(error.contains("no answer within 200ms"), "{error}");
    let server = TestServer::start();
    let mut both = server.target("postgres", "localhost", "");
    both.hosts.insert(0, target.hosts[0].clone());
    both.connect_timeout = Duration::from_secs(2);
    assert!(encrypted(&both).await.is_ok());
}
