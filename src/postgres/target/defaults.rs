//! What libpq assumes where nobody says otherwise.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::Keepalives;

/// libpq waits for ever; a host that drops packets would hold a start for two minutes.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A link cut without a word is noticed in 10 s instead of the system's 15 minutes.
pub(super) const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle link that is gone is noticed after 15 + 3 × 5 s; the system's default is two hours.
pub(super) const KEEPALIVES: Keepalives =
    Keepalives { idle: Duration::from_secs(15), interval: Duration::from_secs(5), count: 3 };

/// Where packages put the socket: Debian's and Red Hat's, then PostgreSQL's own.
const SOCKET_DIRECTORIES: [&str; 3] = ["/run/postgresql", "/var/run/postgresql", "/tmp"];

/// The local socket if there is one, else this machine over TCP.
pub(super) fn host(port: u16) -> &'static str {
    let has_socket =
        |directory: &&str| Path::new(directory).join(format!(".s.PGSQL.{port}")).exists();
    SOCKET_DIRECTORIES.into_iter().find(has_socket).unwrap_or("localhost")
}

/// Whether a socket in this directory is the usual local server.
pub(super) fn is_socket_directory(directory: &str) -> bool {
    SOCKET_DIRECTORIES.contains(&directory)
}

/// The user of this process, as the operating system names it.
pub(super) fn user(env: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let id = fs::metadata("/proc/self").ok().map(|process| process.uid().to_string());
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == id.as_deref() && id.is_some()).then(|| name.to_owned())
    });
    named.or_else(|| env("USER").filter(|name| !name.is_empty()))
}

/// The home directory, where libpq keeps its files.
pub(super) fn home(env: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    env("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// A file of `~/.postgresql`, if it is there.
pub(super) fn home_file(env: &impl Fn(&str) -> Option<String>, name: &str) -> Option<PathBuf> {
    let file = home(env)?.join(".postgresql").join(name);
    file.exists().then_some(file)
}
