//! Tests with an installed server; each test has its own cluster.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::Command,
};

use super::*;

fn data_dir(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("datastream-test-{}-{name}", std::process::id()))
}

fn cluster(name: &str, settings: Settings) -> Cluster {
    let installation = Installation::find().expect("a PostgreSQL server");
    Cluster::create_or_open(installation, &data_dir(name), settings).expect("a cluster")
}

/// Sends a startup message; an `R` means that the server answered.
fn answers(stream: &mut (impl Read + Write)) -> bool {
    let body = b"\0\x03\0\0user\0postgres\0\0";
    let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
    stream.write_all(&[&length, body.as_slice()].concat()).expect("a write");
    let mut first = [0];
    stream.read_exact(&mut first).expect("a read");
    first == *b"R"
}

fn accepts(cluster: &Cluster) -> bool {
    let path = cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port()));
    UnixStream::connect(path).is_ok_and(|mut stream| answers(&mut stream))
}

#[test]
fn a_cluster_restarts_after_each_kind_of_stop_and_removes_its_files() {
    let mut cluster = cluster("again", Settings::default());
    for how in [Stop::Fast, Stop::Immediate, Stop::Kill] {
        cluster.start().expect("a start");
        assert!(accepts(&cluster), "before {how:?}");
        cluster.stop(how).expect("a stop");
        assert!(!accepts(&cluster), "after {how:?}");
    }
    let (socket_dir, data_dir) = (cluster.socket_dir().to_path_buf(), data_dir("again"));
    assert!(data_dir.exists());
    drop(cluster);
    assert!(!socket_dir.exists() && !data_dir.exists() && !lock_path(&data_dir).exists());
}

#[test]
fn a_cluster_with_a_port_answers_on_it() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let mut cluster = cluster("tcp", Settings { tcp_port: Some(port), ..Settings::default() });
    cluster.start().expect("a start");
    assert!(answers(&mut TcpStream::connect(("127.0.0.1", port)).expect("a connection")));
    assert_eq!(
        cluster.tcp_url("games").as_deref(),
        Some(format!("postgresql://postgres@127.0.0.1:{port}/games").as_str())
    );
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let first = cluster("in-use", Settings::default());
    let installation = first.installation().clone();
    let second = Cluster::create_or_open(installation, &data_dir("in-use"), Settings::default());
    assert!(matches!(second, Err(Error::InUse(_))), "{second:?}");
}

#[test]
fn a_server_left_running_is_stopped_by_the_next_start() {
    let mut first = cluster("left", Settings { durable: true, ..Settings::default() });
    first.start().expect("a start");
    let left = first.pid().expect("a server");
    // Simulates a kill of this process and its guard: neither stops the server.
    let server = first.server.take().expect("a server");
    Command::new("kill").args(["-KILL", &server_guard(&server)]).status().expect("kill");
    std::mem::forget(server);
    drop(first);
    let mut second = cluster("left", Settings::default());
    second.start().expect("a start");
    assert!(accepts(&second));
    assert_ne!(second.pid(), Some(left));
}

fn server_guard(server: &Server) -> String {
    server.guard_pid().to_string()
}

#[test]
fn the_error_contains_an_invalid_setting() {
    let extra = vec![("no_such_setting".to_owned(), "1".to_owned())];
    let mut cluster = cluster("broken", Settings { extra, ..Settings::default() });
    let error = cluster.start().expect_err("no start");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}
