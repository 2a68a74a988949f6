//! `datastream doctor`: content where all is well; what it finds of roles, addresses and this machine.
//! Faults of a database are in `doctor_faults`.

use serde_json::Value;

use crate::support::{
    TestDatabase,
    binary::{Output, datastream},
};

async fn doctor(url: &str, args: &[&str]) -> Output {
    datastream(&[&["doctor"], args].concat()).env("DATABASE_URL", url).run().await
}

/// The checks of this name that are not well: status and text.
async fn complaints(url: &str, name: &str, args: &[&str]) -> Vec<(String, String)> {
    let output = doctor(url, &[&["--json"], args].concat()).await;
    let report: Value = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", output.stdout, output.stderr));
    let checks = report["checks"].as_array().expect("checks");
    let failed = checks.iter().any(|check| check["status"] == "failed");
    assert_eq!(output.code, Some(i32::from(failed)), "{}", output.stdout);
    assert_eq!(report["ok"], !failed);
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let wrong = checks.iter().filter(|check| check["name"] == name && check["status"] != "ok");
    wrong
        .map(|check| {
            assert_ne!(text(check, "remedy"), "", "no remedy: {check}");
            (text(check, "status"), text(check, "says"))
        })
        .collect()
}

#[track_caller]
fn assert_found(found: &[(String, String)], status: &str, says: &str) {
    assert!(
        found.iter().any(|(s, text)| s == status && text.contains(says)),
        "{says} in {found:?}"
    );
}

/// Plants a fault in a database that is well, and looks for the complaint.
async fn planted(sql: &str, name: &str, status: &str, says: &str) {
    let database = TestDatabase::new().await;
    assert_eq!(complaints(&database.url(), name, &[]).await, [], "{name} before");
    database.run(sql).await;
    assert_found(&complaints(&database.url(), name, &[]).await, status, says);
}

#[tokio::test]
async fn a_database_that_is_well_is_told_so() {
    let database = TestDatabase::new().await;
    database.finish("crash", "{}").await;
    let output = doctor(&database.url(), &[]).await;
    assert_eq!(output.code, Some(0), "{}", output.stdout);
    assert!(
        !output.stdout.contains("FAILED") && !output.stdout.contains("skipped"),
        "{}",
        output.stdout
    );
    for name in ["version", "attached", "listener", "queue", "outbox", "clock", "files", "prepared"]
    {
        assert!(output.stdout.contains(&format!(" {name}: ")), "{name} in {}", output.stdout);
    }
}

#[tokio::test]
async fn a_database_that_is_away_and_one_without_our_schema_are_told() {
    let away = complaints("postgresql://nobody@127.0.0.1:1/none", "connection", &[]).await;
    assert_found(&away, "failed", "127.0.0.1:1");
    let database = TestDatabase::empty().await;
    let missing = complaints(&database.url(), "schema", &[]).await;
    assert_found(&missing, "failed", "datastream.outbox");
}

#[tokio::test]
async fn no_table_at_all_is_found() {
    let detach = "select datastream.detach('public.rounds')";
    planted(detach, "attached", "failed", "no table is attached").await;
}

#[tokio::test]
async fn rows_that_row_security_hides_are_found() {
    let role = "do $$ begin create role doctor_owner; exception when duplicate_object or unique_violation then null; end $$; ";
    let hide = format!(
        "{role} grant usage, create on schema datastream, public to doctor_owner; \
         grant select on rounds, games to doctor_owner; \
         do $$ begin execute (select format('alter view datastream.rounds_%s owner to doctor_owner', id) from datastream.attached); end $$; \
         alter table rounds enable row level security"
    );
    planted(&hide, "readable", "failed", "row security on rounds").await;
    let hide = hide
        .replace("grant select on rounds, games", "revoke all on rounds, games")
        .replace("games to doctor_owner;", "games from doctor_owner;");
    planted(&hide, "readable", "failed", "may not read rounds").await;
}

#[tokio::test]
async fn a_role_without_the_rights_is_found() {
    let database = TestDatabase::new().await;
    let role = format!("{}_bare", database.name);
    database
        .run(&format!("create role {role} login; grant usage on schema datastream to {role}"))
        .await;
    let url =
        database.url_through(database.address.tcp_port).replace("postgres@", &format!("{role}@"));
    let found = complaints(&url, "rights", &[]).await;
    assert_found(&found, "failed", "select from datastream.outbox");
    assert_found(&found, "failed", "execute datastream.trim");
}

#[tokio::test]
async fn a_listen_url_that_is_not_delivered_to_is_found() {
    let (database, other) = (TestDatabase::new().await, TestDatabase::empty().await);
    let found = complaints(&database.url(), "listener", &["--listen-url", &other.url()]).await;
    assert_found(&found, "failed", "is not delivered notifications");
    let away = ["--listen-url", "postgresql://nobody@127.0.0.1:1/none"];
    assert_found(&complaints(&database.url(), "listener", &away).await, "failed", "127.0.0.1:1");
}

#[tokio::test]
async fn a_listener_without_tcp_user_timeout_is_found() {
    let database = TestDatabase::new().await;
    let url = database.url_through(database.address.tcp_port);
    assert_eq!(complaints(&url, "tcp_user_timeout", &[]).await, []);
    let url = format!("{url}?tcp_user_timeout=0");
    assert_found(&complaints(&url, "tcp_user_timeout", &[]).await, "warning", "0");
}

#[tokio::test]
async fn too_few_open_files_are_found() {
    let database = TestDatabase::new().await;
    let many = ["--max-connections", "4000000000"];
    assert_found(&complaints(&database.url(), "files", &many).await, "warning", "of 4000000000");
}
