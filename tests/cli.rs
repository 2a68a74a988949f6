//! The program on the command line: options, exit codes, one-line errors.

use std::{fs, process::Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};

use testkit::{
    TestDatabase, TestServer, WireRound, WsClient,
    binary::{Output, VARIABLES, datastream},
    cluster::{Address, free_port},
    eventually, get,
    http::try_get,
    serving, within,
};

/// A failure is reported in one line, without a backtrace.
#[track_caller]
fn assert_one_line(output: &Output, code: i32, says: &str) {
    assert_eq!(output.code, Some(code), "{output:?}");
    let line = output.stderr.lines().rfind(|line| line.contains(says));
    assert!(line.is_some(), "`{says}` in {}", output.stderr);
    for word in ["backtrace", "panicked", "stack"] {
        assert!(!output.stderr.contains(word), "{}", output.stderr);
    }
}

#[tokio::test]
async fn help_lists_every_option_with_its_variable() {
    let output = datastream(&["serve", "--help"]).run().await;
    assert_eq!(output.code, Some(0));
    for variable in VARIABLES {
        assert!(output.stdout.contains(variable), "{variable} in {}", output.stdout);
    }
    let output = datastream(&["--help"]).run().await;
    for command in ["serve", "migrate", "demo", "tail"] {
        assert!(output.stdout.contains(command), "{command} in {}", output.stdout);
    }
    let output = datastream(&["--version"]).run().await;
    assert!(output.stdout.starts_with("datastream 0."), "{}", output.stdout);
}

#[tokio::test]
async fn bad_usage_exits_with_2_and_names_the_option() {
    for (args, says) in [
        (vec!["serve", "--no-such-option"], "--no-such-option"),
        (vec!["no-such-command"], "no-such-command"),
        (vec!["serve", "--http-addr", "nonsense"], "--http-addr"),
        (vec!["serve", "--heartbeat", "soon"], "--heartbeat"),
        (vec!["serve", "--heartbeat", "0s"], "heartbeat"),
        (vec!["serve", "--history", "0"], "--history"),
    ] {
        let run = datastream(&args).env("DATABASE_URL", "postgresql://localhost/x");
        assert_one_line(&run.run().await, 2, says);
    }
}

#[tokio::test]
async fn an_invalid_variable_exits_with_2_and_is_named() {
    let url = "postgresql://localhost/x";
    let run = datastream(&["serve"]).env("DATABASE_URL", url).env("DATASTREAM_HISTORY", "many");
    assert_one_line(&run.run().await, 2, "history");
    let run = datastream(&["serve"]).env("DATABASE_URL", "mysql://localhost/x");
    assert_one_line(&run.run().await, 2, "DATABASE_URL");
}

#[tokio::test]
async fn a_password_is_never_printed() {
    let url = "postgresql://someone:opensesame@127.0.0.1:notaport/x";
    let output = datastream(&["serve"]).env("DATABASE_URL", url).run().await;
    assert_eq!(output.code, Some(2));
    assert!(!output.stderr.contains("opensesame"), "{}", output.stderr);
}

#[tokio::test]
async fn a_database_without_the_schema_exits_with_1_and_names_the_command_to_run() {
    let database = TestDatabase::empty().await;
    let run = datastream(&["serve"])
        .env("DATABASE_URL", database.url())
        .env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0");
    assert_one_line(&run.run().await, 1, "Run: datastream migrate");
}

#[tokio::test]
async fn a_busy_port_exits_with_1_and_names_it() {
    let (database, server) = serving().await;
    let run = datastream(&["serve"])
        .env("DATABASE_URL", database.url())
        .env("DATASTREAM_HTTP_ADDR", server.addr.to_string());
    assert_one_line(&run.run().await, 1, &server.addr.to_string());
}

#[tokio::test]
async fn a_role_without_rights_exits_with_1() {
    let database = TestDatabase::new().await;
    let role = format!("nobody_{}", database.name);
    database.run(&format!("create role {role} login")).await;
    let run = datastream(&["serve"])
        .env("DATABASE_URL", database.url().replace("postgres@", &format!("{role}@")))
        .env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0");
    assert_one_line(&run.run().await, 1, "permission");
}

#[tokio::test]
async fn serve_waits_until_the_database_starts() {
    let mut cluster = testkit::DedicatedCluster::start();
    let database = TestDatabase::on(&cluster.address()).await;
    let url = Address::tcp_url(&database.name, cluster.address().tcp_port);
    cluster.stop(embedded_postgres::Stop::Fast);
    let server = TestServer::on(url).start_unready().await;
    server.unready().await;
    cluster.start_again();
    server.ready().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let round = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round);
}

#[tokio::test]
async fn pg_variables_are_used_without_a_url() {
    let database = TestDatabase::new().await;
    let server = TestServer::on("")
        .without("DATABASE_URL")
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", database.address.tcp_port.to_string())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", &database.name)
        .start()
        .await;
    assert_eq!(get(&server.http("/games")).await.status, 200);
}

#[tokio::test]
async fn the_environment_overrides_a_dotenv_file() {
    let database = TestDatabase::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let lines = format!(
        "DATABASE_URL={}\nDATASTREAM_HTTP_ADDR=127.0.0.1:0\nDATASTREAM_LOG_FORMAT=json\n",
        database.url()
    );
    fs::write(folder.path().join(".env"), lines).expect("a file");
    let server = TestServer::on("")
        .without("DATABASE_URL")
        .without("DATASTREAM_HTTP_ADDR")
        .env("DATASTREAM_LOG_FORMAT", "text")
        .current_dir(folder.path())
        .start()
        .await;
    let log = server.log();
    assert!(!log.iter().any(|line| line.starts_with('{')), "{log:?}");
}

#[tokio::test]
async fn the_log_is_json_if_requested() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_LOG_FORMAT", "json").start().await;
    for line in server.log() {
        let entry: Result<serde_json::Value, _> = serde_json::from_str(&line);
        assert!(entry.is_ok(), "{line}");
    }
}

#[tokio::test]
async fn flags_override_variables() {
    let database = TestDatabase::new().await;
    let port = free_port();
    let flag = format!("127.0.0.1:{port}");
    let server = TestServer::on(database.url()).arg("--http-addr").arg(&flag).start().await;
    assert_eq!(server.addr.port(), port);
}

#[tokio::test]
async fn tail_prints_each_round_of_a_game_once_across_a_restart_of_the_server() {
    let (database, server) = serving().await;
    let seed = database.finish_streamed(&server, "crash", r#"{"point": "4.20"}"#).await;
    let url = server.http("");
    let mut run = datastream(&["tail", "crash", "--url", &url, "--json"]);
    let spawned = run.command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = spawned.expect("the binary");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = async || {
        let line = within("a line of tail", lines.next_line()).await.expect("a read");
        WireRound::parse(&line.expect("a line")).round_id
    };
    assert_eq!(next().await, seed);
    let addr = server.addr.to_string();
    server.kill().await;
    database.finish("double", "{}").await;
    let missed = database.finish("crash", "{}").await;
    let _server = TestServer::on(database.url()).env("DATASTREAM_HTTP_ADDR", addr).start().await;
    assert_eq!(next().await, missed);
    let live = database.finish("crash", "{}").await;
    assert_eq!(next().await, live);
}

#[tokio::test]
async fn serve_continues_when_its_log_cannot_be_written() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
    let mut bad = datastream(&["serve", "--http-addr", "nonsense"]);
    let status = bad.command.stderr(full()).status();
    assert_eq!(within("a status", status).await.expect("a run").code(), Some(2));
    let database = TestDatabase::new().await;
    let address = format!("127.0.0.1:{}", free_port());
    let mut run =
        datastream(&["serve", "--http-addr", &address]).env("DATABASE_URL", database.url());
    let mut child = run.command.stderr(full()).spawn().expect("the binary");
    let health = format!("http://{address}/readyz");
    let ready = || async { (try_get(&health).await?.status == 200).then_some(()) };
    eventually("a server that is ready", ready).await;
    let mut client = WsClient::connect(format!("ws://{address}/ws/crash")).await;
    // Each of these writes a log line.
    database.terminate_server_sessions().await;
    let round = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round);
    assert!(child.try_wait().expect("a status").is_none());
}

#[tokio::test]
async fn the_application_name_identifies_the_sessions_of_the_server() {
    let (database, _server) = serving().await;
    let sql = "select string_agg(distinct application_name, ',' order by application_name) \
        from pg_stat_activity where datname = current_database() and application_name like 'datastream%'";
    let names = database.text(sql).await.expect("sessions");
    assert!(names.contains("datastream listen"), "{names}");
}

#[tokio::test]
async fn demo_inserts_rounds_serves_them_and_stops() {
    let folder = tempfile::tempdir_in("/tmp").expect("a folder");
    // If the tests run as root, the server's user must be able to enter the folder.
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("open");
    let data = folder.path().join("demo");
    for _ in 0..2 {
        let port_0 = ["--postgres-port", "0", "--http-addr", "127.0.0.1:0"];
        let mut run = datastream(&[&["demo", "--speed", "20"], &port_0[..]].concat())
            .env("PG_BIN", testkit::cluster::installation().bin());
        run.command.arg("--data-dir").arg(&data);
        let server = TestServer::spawn(run.command).await;
        server.ready().await;
        let mut client = WsClient::connect(server.ws("/ws")).await;
        let rounds = client.rounds(8).await;
        assert!(rounds.iter().all(|round| round.extras.starts_with('{')), "{rounds:?}");
        let log = server.log().join("\n");
        assert!(!log.contains("is in use") && !log.contains("postgres.port=0"), "{log}");
        server.signal("INT");
        assert_eq!(server.exit_code().await, Some(0));
    }
}
