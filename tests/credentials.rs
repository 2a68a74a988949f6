//! Passwords that are rotated while the server runs.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use testkit::{
    DedicatedCluster, TestDatabase, TestServer, WsClient, binary::datastream, eventually, get,
};

/// PostgreSQL 13 stores passwords as MD5 by default, and the cluster asks for SCRAM.
const SCRAM: &str = "set password_encryption = 'scram-sha-256'";

/// A cluster that asks the role `rotated` for its password, and a password file.
struct Guarded {
    database: TestDatabase,
    folder: tempfile::TempDir,
    _cluster: DedicatedCluster,
}

impl Guarded {
    async fn new() -> Self {
        let cluster = DedicatedCluster::start();
        let database = TestDatabase::on(&cluster.address()).await;
        let create = format!("{SCRAM}; create role rotated login superuser password 'first'");
        database.run(&create).await;
        let rules = "local all all trust\nhost all rotated 127.0.0.1/32 scram-sha-256\n\
            host all all 127.0.0.1/32 trust\n";
        let file = database.text("show hba_file").await.expect("a file");
        fs::write(&file, rules).expect("the rules");
        database.run("select pg_reload_conf()").await;
        let guarded =
            Self { database, folder: tempfile::tempdir().expect("a folder"), _cluster: cluster };
        guarded.write("first");
        guarded
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("pgpass")
    }

    /// Replaces the file as a rotation does.
    fn write(&self, password: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, format!("127.0.0.1:*:*:rotated:{password}\n")).expect("written");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("a mode");
        fs::rename(new, self.file()).expect("renamed");
    }

    fn url(&self) -> String {
        let url = self.database.url_through(self.database.address.tcp_port);
        url.replace("postgres@", "rotated@")
    }

    fn server(&self) -> testkit::server::Builder {
        let server = TestServer::on(self.url()).env("PGPASSFILE", self.file());
        // Resumes are answered by the pool.
        server.env("DATASTREAM_HISTORY", "1")
    }

    async fn change_password(&self, password: &str) {
        self.database.run(&format!("{SCRAM}; alter role rotated password '{password}'")).await;
    }

    async fn end_sessions(&self) {
        let end =
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rotated'";
        self.database.run(end).await;
    }

    /// Asserts that a round arrives live and that the pool answers.
    async fn works(&self, server: &TestServer) {
        server.ready().await;
        let mut client = WsClient::connect(server.ws("/ws/crash")).await;
        let round = self.database.finish("crash", "{}").await;
        client.rounds_until(round).await;
        let url = server.http("/rounds/crash");
        eventually("a list from the pool", || async {
            let answer = get(&url).await;
            (answer.status == 200 && answer.body.contains(&format!("\"round_id\":{round},")))
                .then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_rotated_password_is_read_for_the_next_connection() {
    let guarded = Guarded::new().await;
    let server = guarded.server().start().await;
    guarded.works(&server).await;
    for password in ["second", "third:\\"] {
        guarded.change_password(&password.replace('\'', "''")).await;
        guarded.write(&password.replace('\\', "\\\\").replace(':', "\\:"));
        guarded.end_sessions().await;
        guarded.works(&server).await;
    }
}

#[tokio::test]
async fn a_rotated_password_is_read_from_the_home_folder_or_from_the_file_that_the_url_names() {
    let guarded = Guarded::new().await;
    let home = guarded.folder.path().join("home");
    fs::create_dir(&home).expect("a folder");
    std::os::unix::fs::symlink(guarded.file(), home.join(".pgpass")).expect("a link");
    let named = format!("{}?passfile={}", guarded.url(), guarded.file().display());
    for server in [
        guarded.server().without("PGPASSFILE").env("HOME", &home),
        TestServer::on(named).without("PGPASSFILE").env("DATASTREAM_HISTORY", "1"),
    ] {
        let server = server.start().await;
        for password in ["second", "first"] {
            guarded.change_password(password).await;
            guarded.write(password);
            guarded.end_sessions().await;
            guarded.works(&server).await;
        }
    }
}

#[tokio::test]
async fn a_password_file_that_changes_after_the_sessions_ended_ends_the_outage() {
    let guarded = Guarded::new().await;
    let server = guarded.server().start().await;
    guarded.works(&server).await;
    guarded.change_password("second").await;
    guarded.end_sessions().await;
    server.unready().await;
    guarded.write("second");
    guarded.works(&server).await;
}

#[tokio::test]
async fn the_listen_url_and_the_pool_each_read_their_own_password() {
    let guarded = Guarded::new().await;
    guarded.database.run("create role queries login superuser password 'q1'").await;
    let host = guarded.url();
    let queries = host.replace("rotated@", "queries@");
    let server = guarded.server().env("DATABASE_URL", &queries).env("DATASTREAM_LISTEN_URL", &host);
    let server = server.start().await;
    guarded.works(&server).await;
    guarded.change_password("second").await;
    guarded.write("second");
    guarded.end_sessions().await;
    guarded.works(&server).await;
}

#[tokio::test]
async fn a_wrong_password_at_the_start_is_a_failure_that_names_the_remedy() {
    let guarded = Guarded::new().await;
    guarded.write("wrong");
    let run = datastream(&["serve", "--http-addr", "127.0.0.1:0"]);
    let run = run.env("DATABASE_URL", guarded.url());
    let output = run.env("PGPASSFILE", guarded.file()).run().await;
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("password authentication failed"), "{}", output.stderr);
    assert!(output.stderr.contains("Set the password"), "{}", output.stderr);
}
