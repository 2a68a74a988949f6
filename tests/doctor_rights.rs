//! `datastream doctor` on privileges: of the role that runs it, and of the owner of the views, whose
//! rights and row security decide which rounds are streamed.

use testkit::{
    TestDatabase,
    cluster::Address,
    doctor::{Finding, assert_well, findings, run, told},
};

use crate::doctor_faults::pretended;

#[tokio::test]
async fn doctor_reports_a_role_without_usage_of_the_schema_and_the_remedy_grants_all_rights() {
    let database = TestDatabase::new().await;
    let role = format!("{} bare", database.name);
    database.run(&format!("create role \"{role}\" login")).await;
    let url = Address::tcp_url(&database.name, database.address.tcp_port);
    let url = url.replace("postgres@", &format!("{}@", role.replace(' ', "%20")));
    let found = findings(&url, "rights", &[]).await;
    let told = told(&found, "failed", "use the schema datastream, select from datastream.");
    assert!(told.says.contains("execute datastream.trim"), "{told:?}");
    // A check that cannot run does not report ok.
    let unseen = findings(&url, "attached", &[]).await;
    assert!(unseen.iter().all(|line| line.status == "skipped"), "{unseen:?}");
    told.follow(&database).await;
    let output = run(&url, "doctor", &[]).await;
    assert_eq!(output.code, Some(0), "{}", output.stdout);
    assert!(!output.stdout.contains("skipped"), "{}", output.stdout);
    assert!(!output.stdout.contains("WARNING  rights"), "{}", output.stdout);
}

#[tokio::test]
async fn doctor_does_not_report_ok_for_a_check_that_failed() {
    let database = TestDatabase::new().await;
    let broken = pretended!(
        "pg_notification_queue_usage() returns double precision language plpgsql \
         as 'begin raise exception ''out of order''; end'"
    );
    database.run(broken).await;
    let found = findings(&database.url(), "queue", &[]).await;
    told(&found, "failed", "the check could not run: out of order");
}

/// A database with two rounds whose views belong to a role of this test.
struct Owned {
    database: TestDatabase,
    owner: String,
}

impl Owned {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        database.finish_many("crash", 2).await;
        let owner = format!("{}_owner", database.name);
        let give = format!(
            "create role {owner}; grant usage, create on schema datastream to {owner}; \
             alter view datastream.attached_1_rounds owner to {owner}; \
             alter view datastream.attached_games owner to {owner}"
        );
        database.run(&give).await;
        Self { database, owner }
    }

    /// Replaces `$owner` in the statement by the role.
    async fn run(&self, sql: &str) {
        self.database.run(&sql.replace("$owner", &self.owner)).await;
    }

    async fn found(&self) -> Vec<Finding> {
        findings(&self.database.url(), "readable", &[]).await
    }

    /// Asserts that doctor reports ok and that the view contains all rounds.
    #[track_caller]
    fn is_well(&self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            assert_well(&self.found().await, &format!("readable, at {caller}"));
            let read = "select count(*)::text from datastream.attached_1_rounds";
            assert_eq!(self.database.text(read).await.as_deref(), Some("2"), "{caller}");
        }
    }

    /// Asserts that doctor reports this after the statement, and not after the remedy.
    #[track_caller]
    fn reports(&self, sql: &str, status: &str, says: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            self.run(sql).await;
            let found = self.found().await;
            let line = found.iter().find(|line| line.status == status && line.says.contains(says));
            let line = line.unwrap_or_else(|| panic!("{caller}: {found:?}"));
            line.follow(&self.database).await;
            self.is_well().await;
        }
    }
}

#[tokio::test]
async fn doctor_reports_tables_that_the_views_may_not_read() {
    let it = Owned::new().await;
    let found = it.found().await;
    for table in ["rounds", "games"] {
        let says = format!("role {}, the owner of the views, may not read {table}", it.owner);
        told(&found, "failed", &says).follow(&it.database).await;
    }
    it.is_well().await;
    // A view needs only the columns that it names, and no right on the schema.
    it.run("revoke select on rounds from $owner; revoke usage on schema public from public").await;
    it.run("grant select (id, game_id, finished_at, extras) on rounds to $owner").await;
    it.is_well().await;
}

#[tokio::test]
async fn doctor_reports_row_security_that_hides_or_may_hide_rows() {
    let it = Owned::new().await;
    it.run("grant select on rounds, games to $owner").await;
    let enable = "alter table rounds enable row level security";
    it.reports(enable, "failed", "no policy shows it a row").await;
    let policies = "do $$ begin execute (select string_agg(format('drop policy %I on rounds', polname), '; ') \
        from pg_policy where polrelid = 'rounds'::regclass); end $$; ";
    // The other remedy.
    it.run(policies).await;
    let found = it.found().await;
    let bypass = format!("alter role {} bypassrls", it.owner);
    assert!(told(&found, "failed", "no policy").remedy.contains(&bypass), "{found:?}");
    it.run(&bypass).await;
    it.is_well().await;
    it.run("alter role $owner nobypassrls").await;
    let part = "create policy part on rounds using (id > 1)";
    it.reports(part, "warning", "its policies may hide rows").await;
    let fewer = "create policy fewer on rounds as restrictive using (id > 1)";
    it.reports(fewer, "warning", "its policies may hide rows").await;
    it.run(&format!("alter role $owner nobypassrls; {policies}")).await;
    it.reports("select", "failed", "no policy shows it a row").await;
}

#[tokio::test]
async fn doctor_accepts_row_security_for_the_owner_unless_it_is_forced() {
    let it = Owned::new().await;
    let enable = "create role $owner_of_tables; alter table rounds owner to $owner_of_tables; \
        alter table games owner to $owner_of_tables; grant $owner_of_tables to $owner; \
        alter table rounds enable row level security; alter table games enable row level security";
    it.run(enable).await;
    it.is_well().await;
    let force = "alter table rounds force row level security";
    it.reports(force, "failed", "row security on rounds applies").await;
    let force = "alter table games force row level security";
    it.reports(force, "failed", "row security on games applies").await;
}
