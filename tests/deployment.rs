//! The configuration files of the deployment page, unchanged.

use std::{net::TcpListener, path::Path, process::Stdio};

use tokio::process::{Child, Command};

use testkit::{
    SseClient, TestDatabase, TestServer, WsClient,
    cluster::installation,
    eventually,
    http::{get, try_get},
    round::ids,
    serving,
};

/// A running nginx; dropping it stops it. It runs in the foreground, so no process outlives it.
struct Nginx {
    _child: Child,
    _folder: tempfile::TempDir,
    address: String,
}

/// On Debian, nginx is not on the PATH of ordinary users.
fn program() -> Option<&'static str> {
    ["/usr/sbin/nginx", "/usr/local/sbin/nginx"].into_iter().find(|path| Path::new(path).exists())
}

impl Nginx {
    /// The provided file without TLS, on a free port, in front of `upstream`.
    async fn start(program: &str, upstream: &str) -> Self {
        let port = || {
            let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
            free.local_addr().expect("an address").to_string()
        };
        let (address, plain, folder) = (port(), port(), tempfile::tempdir().expect("a folder"));
        let config = adapt(&address, &plain, upstream);
        std::fs::write(folder.path().join("nginx.conf"), config).expect("written");
        let arguments = ["-c", "nginx.conf", "-e", "stderr", "-g"];
        let child = Command::new(program)
            .arg("-p")
            .arg(folder.path())
            .args(arguments)
            .arg("daemon off; master_process off; pid nginx.pid;")
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("nginx");
        let nginx = Self { _child: child, _folder: folder, address };
        let health = format!("http://{}/healthz", nginx.address);
        eventually("nginx to answer", || async { try_get(&health).await.map(|_| ()) }).await;
        nginx
    }
}

/// Adapts the file: addresses, no certificate, and folders that any user may write to.
fn adapt(address: &str, plain: &str, upstream: &str) -> String {
    let offered = include_str!("../deploy/nginx/nginx.conf");
    let folders = "http { client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; \
                   uwsgi_temp_path u; scgi_temp_path s;";
    let lines = offered.lines().filter(|line| !line.trim_start().starts_with("ssl_"));
    let lines: Vec<&str> = lines.filter(|line| !line.contains("access_log")).collect();
    lines
        .join("\n")
        .replace("listen 443 ssl http2;", &format!("listen {address};"))
        .replace("listen 80;", &format!("listen {plain};"))
        .replace("server 127.0.0.1:3000;", &format!("server {upstream};"))
        .replace("http {", &format!("{folders} access_log off;"))
}

#[tokio::test]
async fn rounds_pass_through_nginx_over_websocket_and_sse_at_once() {
    let Some(program) = program() else {
        eprintln!("skipped: no nginx (apt-get install nginx-light)");
        return;
    };
    let (database, server) = serving().await;
    let nginx = Nginx::start(program, &server.addr.to_string()).await;
    let mut ws = WsClient::connect(format!("ws://{}/ws/crash", nginx.address)).await;
    let mut sse = SseClient::connect(&format!("http://{}/sse/crash", nginx.address)).await;
    assert_eq!(sse.headers["content-type"], "text/event-stream");
    for point in ["1.10", "2.20"] {
        let extras = format!(r#"{{"point": "{point}"}}"#);
        let round = database.finish("crash", &extras).await;
        assert_eq!(ws.next_round().await.round_id, round);
        assert_eq!(ids(&sse.messages_until(round).await), [round]);
    }
    let page = get(&format!("http://{}/rounds/crash/latest", nginx.address)).await;
    assert_eq!(page.status, 200);
}

#[tokio::test]
async fn behind_nginx_each_client_has_the_address_that_nginx_saw() {
    let Some(program) = program() else {
        eprintln!("skipped: no nginx (apt-get install nginx-light)");
        return;
    };
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url())
        .env("DATASTREAM_TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.1")
        .env("DATASTREAM_MAX_CONNECTIONS_PER_ADDRESS", "1")
        .start()
        .await;
    let nginx = Nginx::start(program, &server.addr.to_string()).await;
    // The clients' own address is trusted here, so that the header they send decides.
    let stream = async |client: &'static str| {
        let url = format!("http://{}/sse/crash", nginx.address);
        SseClient::connect_with(&url, &[("x-forwarded-for", client)]).await
    };
    let (first, second) = (stream("192.0.2.1").await, stream("192.0.2.2").await);
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(stream("192.0.2.1").await.status, 503);
    assert_eq!(stream("198.51.100.1, 192.0.2.2").await.status, 503);
}

#[tokio::test]
async fn nginx_closes_the_connection_of_an_event_source_while_the_server_is_down() {
    let Some(program) = program() else {
        eprintln!("skipped: no nginx (apt-get install nginx-light)");
        return;
    };
    let (_database, server) = serving().await;
    let nginx = Nginx::start(program, &server.addr.to_string()).await;
    server.kill().await;
    // An EventSource stops after any status but 200; it retries after a broken connection.
    assert!(try_get(&format!("http://{}/sse/crash", nginx.address)).await.is_none());
    assert_eq!(get(&format!("http://{}/healthz", nginx.address)).await.status, 502);
}

#[tokio::test]
async fn sql_piped_into_the_composed_database_finishes_a_round() {
    let database = TestDatabase::migrated_with(&[]).await;
    database.run("truncate public.games, public.rounds").await;
    let page = include_str!("../docs/deployment.md");
    let line = page.lines().find(|line| line.contains("compose exec")).expect("a line for psql");
    // Without -T compose requires a terminal.
    let before = "docker compose exec -T postgres psql -U game";
    assert!(line.contains(before), "{line}");
    let psql = installation().bin().join("psql").display().to_string();
    let command = format!("{psql} -X -q {}", database.url());
    let ran = Command::new("sh").arg("-c").arg(line.replace(before, &command)).output().await;
    assert!(ran.as_ref().is_ok_and(|ran| ran.stderr.is_empty()), "{ran:?}");
    let rounds = database.text("select count(*)::text from public.rounds").await;
    assert_eq!(rounds.as_deref(), Some("1"));
}

#[tokio::test]
async fn the_systemd_unit_gives_up_on_a_failure_that_a_restart_does_not_fix() {
    let unit = include_str!("../deploy/systemd/datastream.service");
    let (head, _) = unit.split_once("[Service]").expect("sections");
    for line in ["StartLimitIntervalSec=10min", "StartLimitBurst=5"] {
        // systemd ignores both in any other section.
        assert!(head.contains(&format!("\n{line}\n")), "{line}");
    }
    assert!(unit.contains("\nRestart=on-failure\n"));
    assert!(unit.contains("\nRestartPreventExitStatus=2\n"));
    let database = TestDatabase::new().await;
    let nobody = database.url_through(database.address.tcp_port).replace("postgres@", "nobody@");
    let run = testkit::binary::datastream(&["serve", "--http-addr", "127.0.0.1:0"]);
    let output = run.env("DATABASE_URL", nobody).run().await;
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("role \"nobody\" does not exist"), "{}", output.stderr);
    assert!(output.stderr.contains("Create the role"), "{}", output.stderr);
}
