//! libpq's defaults.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::Keepalives;

/// libpq has no limit: a host that drops packets would delay a start by two minutes.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that the network cuts is detected after 10 s instead of the system's 15 minutes.
pub(super) const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// A dead idle connection is detected after 15 + 3 × 5 s. The system's default is two hours.
pub(super) const KEEPALIVES: Keepalives =
    Keepalives { idle: Duration::from_secs(15), interval: Duration::from_secs(5), count: 3 };

/// Socket directories: of the packages of Debian and Red Hat, then of PostgreSQL itself.
const SOCKET_DIRECTORIES: [&str; 3] = ["/run/postgresql", "/var/run/postgresql", "/tmp"];

/// The directory of the local socket if it exists, otherwise `localhost`.
pub(super) fn host(port: u16) -> &'static str {
    let has_socket =
        |directory: &&str| Path::new(directory).join(format!(".s.PGSQL.{port}")).exists();
    SOCKET_DIRECTORIES.into_iter().find(has_socket).unwrap_or("localhost")
}

/// Whether this is one of the default socket directories.
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

/// The home directory, which has libpq's files.
pub(super) fn home(env: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    env("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// A file of `~/.postgresql`, if it exists.
pub(super) fn home_file(env: &impl Fn(&str) -> Option<String>, name: &str) -> Option<PathBuf> {
    let file = home(env)?.join(".postgresql").join(name);
    file.exists().then_some(file)
}
