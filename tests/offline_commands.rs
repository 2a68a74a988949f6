//! The commands that need no database: `roles`, `config`, `health`, `completions`, `man`.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    process::Stdio,
    thread,
};

use testkit::{
    TestDatabase, TestServer,
    binary::{Output, datastream, program},
    cluster::{free_port, installation},
    serving,
};

#[track_caller]
fn succeeded(output: &Output) {
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
}

/// The line of a setting, in words.
#[track_caller]
fn setting(output: &Output, name: &str) -> String {
    let line = output.stdout.lines().find(|line| line.split_whitespace().next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("{name} in {}", output.stdout));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn config_prints_each_setting_with_its_value_and_its_origin() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = "DATASTREAM_HISTORY=7\nDATASTREAM_HEARTBEAT=9s\nRUST_LOG=debug\n";
    fs::write(folder.path().join(".env"), file).expect("written");
    let run = datastream(&["config", "--http-addr", "127.0.0.1:4000"])
        .current_dir(folder.path())
        .env("DATASTREAM_HEARTBEAT", "11s")
        .env("DATASTREAM_DEMO_SPEED", "3")
        .env("DATASTREAM_HTTP_ADDR", "127.0.0.1:5000")
        .env("DATABASE_URL", "postgres://ada@db/game");
    let output = run.run().await;
    succeeded(&output);
    for line in [
        "DATASTREAM_HTTP_ADDR 127.0.0.1:4000 flag --http-addr",
        "DATASTREAM_HEARTBEAT 11s environment",
        "DATASTREAM_HISTORY 7 .env",
        "DATASTREAM_RETENTION 24h default",
        "DATASTREAM_WT_CERT (not set) default",
        "DATASTREAM_AUTH_CLAIM datastream default",
        "DATASTREAM_AUTH_LEEWAY 30s default",
        "DATASTREAM_DEMO_SPEED 3 environment",
        "DATASTREAM_URL http://localhost:3000 default",
        "DATABASE_URL postgres://ada@db/game environment",
        "DATASTREAM_LOG_FORMAT text default",
        "RUST_LOG debug .env",
    ] {
        assert_eq!(setting(&output, line.split(' ').next().expect("a name")), line);
    }
}

#[tokio::test]
async fn config_has_the_values_that_the_machine_decides() {
    let output = datastream(&["config"]).env("DATABASE_URL", "postgres://ada@db/game").run().await;
    for name in ["DATASTREAM_MEMORY", "DATASTREAM_SHARDS", "DATASTREAM_NODE"] {
        assert!(!setting(&output, name).contains("(not set)"), "{name}");
    }
}

#[tokio::test]
async fn a_stdout_that_cannot_be_written_is_a_failure_and_a_closed_one_is_none() {
    for words in ["roles", "config", "man", "completions bash", "--help"] {
        for (to, code) in [("> /dev/full", 1), ("| true", 0)] {
            let run = datastream(&[]);
            let program = run.command.as_std().get_program().to_owned();
            let mut shell = tokio::process::Command::new("bash");
            let script = format!("set -o pipefail; \"$0\" {words} {to}");
            shell.arg("-c").arg(script).arg(program).env_clear().current_dir("/");
            shell.env("DATABASE_URL", "postgres://ada@db/game");
            let output = shell.output().await.expect("a run");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{words} {to}: {stderr}");
            assert_eq!(stderr.contains("cannot write to stdout"), code == 1, "{words}: {stderr}");
        }
    }
}

#[tokio::test]
async fn config_has_every_variable_of_every_command() {
    let output = datastream(&["config"]).env("DATABASE_URL", "postgres://ada@db/game").run().await;
    let example = include_str!("../.env.example");
    let variables = example.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
    let variables = variables.map(|(name, _)| name).filter(|name| !name.contains(' '));
    for name in variables.filter(|name| name.to_uppercase() == *name) {
        setting(&output, name);
    }
}

#[tokio::test]
async fn config_hides_every_secret() {
    let run = datastream(&["config", "--listen-url", "host=db user=ada password=opensesame"])
        .env("DATABASE_URL", "postgres://ada:opensesame@db/game?password=opensesame")
        .env("PGPASSWORD", "opensesame")
        .env("PGHOST", "elsewhere");
    let output = run.run().await;
    assert!(!format!("{output:?}").contains("opensesame"), "{}", output.stdout);
    assert!(setting(&output, "DATABASE_URL").contains("postgres://ada:***@db/game?password=***"));
    assert_eq!(setting(&output, "PGPASSWORD"), "PGPASSWORD *** environment");
    assert_eq!(setting(&output, "PGHOST"), "PGHOST elsewhere environment");
}

#[tokio::test]
async fn config_exits_with_2_if_serve_would_refuse_the_settings() {
    for (name, value) in [
        ("DATASTREAM_HISTORY", "many"),
        ("DATABASE_URL", "mysql://db/game"),
        ("DATASTREAM_WT_CERT", "/cert.pem"),
    ] {
        let output = datastream(&["config"]).env(name, value).run().await;
        assert_eq!(output.code, Some(2), "{name}: {}", output.stderr);
        assert!(output.stderr.contains(name), "{}", output.stderr);
    }
}

#[tokio::test]
async fn an_unknown_variable_is_a_warning_with_the_nearest_name() {
    let run = datastream(&["config"])
        .env("DATASTREAM_HISTROY", "7")
        .env("DATASTREAM_PAYLOADS", "on")
        .env("DATABASE_URL", "postgres://ada@db/game");
    let output = run.run().await;
    succeeded(&output);
    assert!(output.stderr.contains("WARN"), "{}", output.stderr);
    let nearest = |name: &str, nearest: &str| {
        let line = output.stderr.lines().find(|line| line.contains(name));
        line.is_some_and(|line| line.contains(nearest))
    };
    assert!(nearest("DATASTREAM_HISTROY", "DATASTREAM_HISTORY"), "{}", output.stderr);
    assert!(nearest("DATASTREAM_PAYLOADS", "DATASTREAM_"), "{}", output.stderr);
    let output = datastream(&["config"]).env("DATABASE_URL", "postgres://ada@db/game").run().await;
    assert_eq!(output.stderr, "");
}

#[tokio::test]
async fn health_exits_with_0_while_the_server_is_ready() {
    let (database, server) = serving().await;
    let health = |addr: String| datastream(&["health"]).env("DATASTREAM_HTTP_ADDR", addr).run();
    let addr = server.addr.to_string();
    let output = health(addr.clone()).await;
    succeeded(&output);
    assert_eq!(output.stdout, "ready\n");
    succeeded(&health(format!("0.0.0.0:{}", server.addr.port())).await);
    // A database that no server reaches: the process lives, but is not ready.
    let (nowhere, port) = (free_port(), free_port());
    let addr_of_unready = format!("127.0.0.1:{port}");
    let unready = TestServer::on(format!("postgres://postgres@127.0.0.1:{nowhere}/none"))
        .env("DATASTREAM_HTTP_ADDR", &addr_of_unready)
        .start_unready()
        .await;
    unready.unready().await;
    let output = health(addr_of_unready).await;
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("not ready (503"), "{}", output.stderr);
    server.kill().await;
    let output = health(addr.clone()).await;
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains(&addr), "{}", output.stderr);
    let output = health("127.0.0.1:0".to_owned()).await;
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    drop(database);
}

/// Answers one request with this text.
fn answer_once(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        // A socket that is closed with unread bytes is reset.
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).expect("a request") > 0);
        stream.write_all(answer.as_bytes()).expect("written");
    });
    addr
}

#[tokio::test]
async fn health_asks_the_internal_listener_if_there_is_one() {
    let internal = answer_once("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let closed = format!("127.0.0.1:{}", free_port());
    let run = datastream(&["health"])
        .env("DATASTREAM_HTTP_ADDR", closed)
        .env("DATASTREAM_INTERNAL_ADDR", internal);
    succeeded(&run.run().await);
}

#[tokio::test]
async fn the_sql_of_roles_makes_both_roles_when_psql_reads_it_from_a_pipe() {
    let printed = datastream(&["roles"]).run().await;
    succeeded(&printed);
    let database = TestDatabase::migrated_with(&[]).await;
    let name = |role: &str| format!("{role}={}_{role}", database.name);
    let psql = installation().bin().join("psql").display().to_string();
    for _ in 0..2 {
        let args = [&*database.url(), "-X", "-q", "-v", &name("owner"), "-v", &name("reader")];
        let mut run = program(&psql, &args);
        let spawned = run.command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("psql");
        let mut stdin = child.stdin.take().expect("a pipe");
        tokio::io::AsyncWriteExt::write_all(&mut stdin, printed.stdout.as_bytes())
            .await
            .expect("written");
        drop(stdin);
        let ended = child.wait_with_output().await.expect("an end");
        assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    }
    let reader = format!("{}_reader", database.name);
    let may =
        format!("select has_table_privilege('{reader}', 'datastream.outbox', 'select')::text");
    assert_eq!(database.text(&may).await.as_deref(), Some("true"));
}

#[tokio::test]
async fn completions_are_scripts_that_name_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = datastream(&["completions", shell]).run().await;
        succeeded(&output);
        assert!(output.stdout.contains("resume-limit"), "{shell}");
        assert!(output.stdout.contains("attach"), "{shell}");
        if shell == "bash" {
            let file = tempfile::NamedTempFile::new().expect("a file");
            fs::write(file.path(), &output.stdout).expect("written");
            succeeded(&program("bash", &["-n", &file.path().display().to_string()]).run().await);
        }
    }
    assert_eq!(datastream(&["completions", "tcsh"]).run().await.code, Some(2));
}

#[tokio::test]
async fn man_writes_a_page_for_each_command() {
    let printed = datastream(&["man"]).run().await;
    succeeded(&printed);
    assert!(printed.stdout.contains("\n.TH datastream 1"), "{}", printed.stdout);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    succeeded(&datastream(&["man", "--dir", &path]).run().await);
    let serve = fs::read_to_string(folder.path().join("datastream-serve.1")).expect("a page");
    assert!(serve.contains("DATASTREAM_HISTORY"), "{serve}");
    let help = datastream(&["--help"]).run().await.stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    // Long descriptions go on in further lines, which are indented more.
    let listed = listed.filter(|line| !line.starts_with("   "));
    for command in listed.filter_map(|line| line.split_whitespace().next()) {
        let page = folder.path().join(format!("datastream-{command}.1"));
        assert!(page.exists() || command == "help", "{command}");
    }
    let nowhere = datastream(&["man", "--dir", "/no/such/folder"]).run().await;
    assert_eq!(nowhere.code, Some(1), "{}", nowhere.stderr);
}

#[tokio::test]
async fn the_version_names_the_revision_and_the_features() {
    let output = datastream(&["--version"]).run().await;
    succeeded(&output);
    let rest = output.stdout.trim().strip_prefix("datastream 0.1.0 (revision ").expect("a line");
    let (revision, rest) = rest.split_once(", features ").expect("features");
    assert!(revision.len() == 12 || revision == "unknown", "{revision}");
    assert!(rest.contains("linux"), "{rest}");
    let (_database, server) = serving().await;
    let metrics = testkit::get(&server.http("/metrics")).await.body;
    let labels = format!("datastream_build_info{{version=\"0.1.0\",revision=\"{revision}\"");
    assert!(metrics.contains(&labels), "{metrics}");
}
