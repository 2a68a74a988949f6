//! The real binary, serving on a free port.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::Stdio,
    thread,
};

use tokio::{
    process::{Child, Command},
    sync::watch,
};

use super::{
    binary::datastream,
    eventually, get,
    http::{request, try_get},
    nats, within,
};

/// The settings of a server with WebTransport on a free port.
pub const WEB_TRANSPORT: [(&str, &str); 2] =
    [("DATASTREAM_WT_ENABLED", "true"), ("DATASTREAM_WT_ADDR", "127.0.0.1:0")];

/// A running server; dropping it kills the process.
#[derive(Debug)]
pub struct TestServer {
    child: Child,
    /// With `BUS=1`: the capture node that feeds it.
    _capture: Option<Child>,
    log: watch::Receiver<Vec<String>>,
    pub addr: SocketAddr,
}

/// A server that has not started.
#[derive(Debug)]
pub struct Builder {
    command: Command,
}

impl TestServer {
    /// A server on this database.
    pub fn on(database_url: impl AsRef<str>) -> Builder {
        let run = datastream(&["serve"])
            .env("DATABASE_URL", database_url.as_ref())
            .env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0");
        Builder { command: run.command }.env("RUST_LOG", "info,datastream=debug")
    }

    /// A command of the program that logs its address.
    pub fn command(args: &[&str]) -> Builder {
        let run = datastream(args).env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0");
        Builder { command: run.command }.env("RUST_LOG", "info,datastream=debug")
    }

    /// A server from any command that logs its address.
    #[track_caller]
    pub fn spawn(command: Command) -> impl Future<Output = Self> {
        Builder { command }.start_unready()
    }

    /// Waits until the log has a line with this text; returns the line.
    #[track_caller]
    pub fn logs(&self, text: &str) -> impl Future<Output = String> + use<> {
        line_with(self.log.clone(), text.to_owned())
    }

    /// `ws://` with this path.
    pub fn ws(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr)
    }

    /// `http://` with this path.
    pub fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Waits until `/readyz` returns 200.
    #[track_caller]
    pub fn ready(&self) -> impl Future<Output = ()> {
        let (url, log) = (self.http("/readyz"), self.log.clone());
        eventually("/readyz to answer 200", move || {
            let (url, log) = (url.clone(), log.clone());
            async move {
                let alive = log.has_changed().is_ok();
                assert!(alive, "the server ended:\n{}", log.borrow().join("\n"));
                (try_get(&url).await?.status == 200).then_some(())
            }
        })
    }

    /// Waits until `/readyz` says no.
    #[track_caller]
    pub fn unready(&self) -> impl Future<Output = ()> {
        let url = self.http("/readyz");
        eventually("/readyz to answer 503", move || {
            let url = url.clone();
            async move { (try_get(&url).await?.status == 503).then_some(()) }
        })
    }

    /// The value of a metric.
    pub async fn metric(&self, name: &str) -> f64 {
        let metrics = get(&self.http("/metrics")).await.body;
        let number = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The value of a metric of a server that needs a token.
    pub async fn metric_with(&self, name: &str, token: &str) -> f64 {
        let metrics = self.metrics_with(token).await;
        let number = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Waits until `/metrics` of a server that needs a token contains this line.
    #[track_caller]
    pub fn counts_with(&self, line: &str, token: &str) -> impl Future<Output = ()> {
        let line = format!("\n{line}\n");
        eventually(format!("/metrics to say{line}"), move || {
            let (line, token) = (line.clone(), token.to_owned());
            async move { self.metrics_with(&token).await.contains(&line).then_some(()) }
        })
    }

    async fn metrics_with(&self, token: &str) -> String {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        request(&reqwest::Method::GET, &self.http("/metrics"), &headers).await.body
    }

    /// Waits until `/metrics` contains this line.
    #[track_caller]
    pub fn counts(&self, line: &str) -> impl Future<Output = ()> + use<> {
        let (url, line) = (self.http("/metrics"), format!("\n{line}\n"));
        eventually(format!("/metrics to say{line}"), move || {
            let (url, line) = (url.clone(), line.clone());
            async move { try_get(&url).await?.body.contains(&line).then_some(()) }
        })
    }

    /// The number of database queries for clients.
    pub async fn queries(&self) -> f64 {
        self.metric("datastream_database_queries_total").await
    }

    /// The log lines so far.
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// The id of the process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a signal by its name: `TERM`, `INT`, `STOP`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().expect("a running server").to_string();
        let status = std::process::Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.expect("kill").success(), "kill -s {name} {pid}");
    }

    /// Suspends all threads with SIGSTOP; `signal("CONT")` continues them.
    #[track_caller]
    pub fn freeze(&self) -> impl Future<Output = ()> + use<> {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.child.id().expect("a running server"));
        eventually("every thread to stop", move || {
            let still = std::fs::read_dir(&tasks).expect("threads").flatten().all(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                // The state follows the name, which is in parentheses.
                stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('T'))
            });
            std::future::ready(still.then_some(()))
        })
    }

    /// Sends SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a kill");
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a status").is_none()
    }

    /// Waits for the exit; returns the exit code and the log.
    #[track_caller]
    pub fn last_words(mut self) -> impl Future<Output = (Option<i32>, Vec<String>)> {
        within("the server's end", async move {
            let code = self.child.wait().await.expect("a status").code();
            // The log ends with the process.
            while self.log.changed().await.is_ok() {}
            (code, self.log())
        })
    }

    /// Waits for the exit; returns the exit code.
    #[track_caller]
    pub fn exit_code(mut self) -> impl Future<Output = Option<i32>> {
        within("the server's end", async move { self.child.wait().await.expect("a status").code() })
    }
}

impl Builder {
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// With WebTransport, on a free port.
    pub fn web_transport(mut self) -> Self {
        self.command.envs(WEB_TRANSPORT);
        self
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub fn current_dir(mut self, folder: &std::path::Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Starts the server and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> impl Future<Output = TestServer> {
        let listening = self.start_unready();
        within("a server that is ready", async move {
            let server = listening.await;
            server.ready().await;
            server
        })
    }

    /// Starts the server and waits only until it listens: the database may be unavailable.
    #[track_caller]
    pub fn start_unready(mut self) -> impl Future<Output = TestServer> {
        let capture = self.move_to_bus();
        let spawned = self.command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("the binary");
        let log = follow(&mut child);
        let listening = line_with(log.clone(), "listening".to_owned());
        async move {
            let addr = http_addr(&listening.await);
            TestServer { child, _capture: capture, log, addr }
        }
    }
}

impl Builder {
    /// With `BUS=1`, a server of a database becomes an edge, and a capture node feeds it.
    fn move_to_bus(&mut self) -> Option<Child> {
        let std = self.command.as_std();
        let variable = |name: &str| {
            let found = std.get_envs().find(|(key, _)| *key == name)?.1?;
            Some(found.to_string_lossy().into_owned())
        };
        let database = variable("DATABASE_URL")?;
        let is_server = std.get_args().next().is_some_and(|arg| arg == "serve");
        if !nats::is_on() || !is_server || variable("DATASTREAM_READ_ONLY").is_some() {
            return None;
        }
        let bus = block(async move { nats::Bus::create(nats::shared().await, &database).await });
        let mut capture = bus.capture();
        for name in ["DATASTREAM_HISTORY", "DATASTREAM_RETENTION", "DATASTREAM_MAX_ROUND"] {
            if let Some(value) = variable(name) {
                capture = capture.env(name, value);
            }
        }
        let edge = bus.edge();
        for (name, value) in edge.command.as_std().get_envs() {
            if let Some(value) = value.filter(|_| name.to_string_lossy().contains("_BUS")) {
                self.command.env(name, value);
            }
        }
        self.command.env_remove("DATABASE_URL");
        let command = capture.command.stdout(Stdio::null()).stderr(Stdio::null());
        Some(command.spawn().expect("the binary"))
    }
}

/// Runs a future to its end on a thread of its own: a builder is not async.
fn block<F: Future<Output: Send> + Send + 'static>(future: F) -> F::Output {
    thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(future)
    })
    .join()
    .expect("no panic")
}

/// Reads the log in a separate thread: a server whose log pipe is full would block.
fn follow(child: &mut Child) -> watch::Receiver<Vec<String>> {
    let stderr = child.stderr.take().expect("a pipe").into_owned_fd().expect("a pipe");
    let (lines, log) = watch::channel(Vec::new());
    thread::spawn(move || {
        for line in BufReader::new(File::from(stderr)).lines().map_while(Result::ok) {
            lines.send_modify(|all| all.push(line));
        }
    });
    log
}

#[track_caller]
fn line_with(mut log: watch::Receiver<Vec<String>>, text: String) -> impl Future<Output = String> {
    let what = format!("a log line with `{text}`");
    within(what, async move {
        let has = |lines: &Vec<String>| lines.iter().find(|line| line.contains(&text)).cloned();
        let waited = log.wait_for(|lines| has(lines).is_some()).await.map(|lines| has(&lines));
        let all = || log.borrow().join("\n");
        waited.ok().flatten().unwrap_or_else(|| panic!("ended without `{text}`:\n{}", all()))
    })
}

/// `http.addr=127.0.0.1:1234` in text, `"http.addr":"127.0.0.1:1234"` in JSON.
fn http_addr(line: &str) -> SocketAddr {
    let (_, after) = line.split_once("http.addr").unwrap_or_else(|| panic!("no http.addr: {line}"));
    let after = after.trim_start_matches(['"', ':', '=']);
    let end = after.find(|c: char| c == '"' || c == ',' || c.is_whitespace());
    let addr = &after[..end.unwrap_or(after.len())];
    addr.parse().unwrap_or_else(|_| panic!("no address: {line}"))
}
