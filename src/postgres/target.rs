//! Which PostgreSQL to talk to, and as whom: one resolver for both client libraries.
//!
//! The two libraries read connection strings differently (one refuses `sslmode=verify-full` and
//! never reads `~/.pgpass`, the other refuses `host=/run/postgresql dbname=x` and lists of hosts).
//! So the string, the `PG*` variables, the password file and libpq's defaults are resolved here,
//! by libpq's rules, and each library is configured from the result.
//! Looks at files (password file, `~/.postgresql`, socket directories), never at the network.

mod advice;
mod defaults;
mod known;
mod options;
mod params;
mod pgpass;
mod syntax;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) use advice::{ConnectError, advice};
pub(crate) use options::escape as escape_option;
use params::Params;

/// Where PostgreSQL is, who we are there, and how the link is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgTarget {
    /// Servers to try in order; never empty.
    pub hosts: Vec<PgHost>,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// Encryption, by libpq's meaning of `sslmode`.
    pub tls: Tls,
    /// Settings asked for by `options=-c name=value`.
    pub options: Vec<(String, String)>,
    /// What `application_name` begins with; each use adds its own word.
    pub application: String,
    /// How long one server may take to answer.
    pub connect_timeout: Duration,
    /// TCP keep-alives, `None` when turned off.
    pub keepalives: Option<Keepalives>,
    /// How long sent data may stay unacknowledged; zero leaves it to the system.
    pub tcp_user_timeout: Duration,
    /// Whether a server that only reads is passed over.
    pub read_write: bool,
    /// Whether the hosts are tried in random order.
    pub balance: bool,
    /// Whether authentication must be bound to the TLS session.
    pub channel_binding: ChannelBinding,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgHost {
    /// A name, an address, or a socket directory (begins with `/`).
    pub name: String,
    /// Where to connect instead of looking the name up.
    pub address: Option<IpAddr>,
    /// The port, also part of a socket's name.
    pub port: u16,
    /// The password for this server.
    pub password: Option<Secret>,
}

/// A password. Prints as stars.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// How the link is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Whether to encrypt and what to verify.
    pub mode: SslMode,
    /// PEM file with the authorities to trust; the system's where `None`.
    pub roots: Option<PathBuf>,
    /// PEM files of our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server can: libpq would try without first; the result differs only on
    /// a server that offers both.
    Allow,
    /// Encrypted where the server can.
    Prefer,
    /// Encrypted, to whomever answers.
    Require,
    /// Encrypted, to a server whose certificate is from a trusted authority.
    VerifyCa,
    /// Encrypted, to the very host that was named.
    VerifyFull,
}

/// libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Not used.
    Disable,
    /// Used where both sides can.
    Prefer,
    /// Required on the LISTEN connection (the query pool's library cannot bind).
    Require,
}

/// When a silent peer is asked whether it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalives {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Probes without an answer before the link counts as dead.
    pub count: u32,
}

/// Why a connection string cannot be used. Never quotes it: a slip may show a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL and not `key=value` pairs either.
    #[error("{0}")]
    Malformed(&'static str),
    /// A parameter that libpq does not know.
    #[error("there is no connection parameter `{0}`")]
    Unknown(String),
    /// A parameter whose promise could not be kept.
    #[error("`{name}` is not supported: {reason}")]
    Unsupported {
        /// The parameter or the variable.
        name: String,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// A value that means nothing.
    #[error("`{name}` must be {expected}")]
    Value {
        /// The parameter or the variable.
        name: String,
        /// What would do.
        expected: &'static str,
    },
    /// The operating system could not say who we are.
    #[error("no user name: put one into the URL (postgres://USER@…) or into PGUSER")]
    NoUser,
}

impl PgTarget {
    /// Resolves a URL or `key=value` string, by libpq's rules: what it leaves open comes from
    /// the `PG*` variables, then the password file, then the defaults.
    pub fn resolve(
        url: Option<&str>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, TargetError> {
        let params = Params::read(url.unwrap_or_default(), &env)?;
        let user = match params.get("user") {
            Some(user) => user.to_owned(),
            None => defaults::user(&env).ok_or(TargetError::NoUser)?,
        };
        let database = params.get("dbname").map_or_else(|| user.clone(), str::to_owned);
        let mut target = Self {
            hosts: params.hosts()?,
            tls: params.tls(&env)?,
            options: options::parse(&params)?,
            application: params.get("application_name").unwrap_or("datastream").to_owned(),
            connect_timeout: params.seconds("connect_timeout", defaults::CONNECT_TIMEOUT)?,
            keepalives: params.keepalives()?,
            tcp_user_timeout: params.millis("tcp_user_timeout", defaults::TCP_USER_TIMEOUT)?,
            read_write: matches!(
                params.get("target_session_attrs"),
                Some("read-write" | "primary")
            ),
            balance: params.get("load_balance_hosts") == Some("random"),
            channel_binding: params.channel_binding(),
            user,
            database,
        };
        target.find_passwords(&params, env);
        Ok(target)
    }

    /// `application_name` for one use: `datastream listen`, `datastream query`.
    pub fn application_name(&self, used_for: &str) -> String {
        format!("{} {used_for}", self.application)
    }

    /// The hosts in the order in which to try them.
    pub fn candidates(&self) -> Vec<&PgHost> {
        let mut hosts: Vec<_> = self.hosts.iter().collect();
        if self.balance {
            fastrand::shuffle(&mut hosts);
        }
        hosts
    }

    fn find_passwords(&mut self, params: &Params, env: impl Fn(&str) -> Option<String>) {
        let file = params.get("passfile").map(PathBuf::from);
        let file = file.or_else(|| defaults::home(&env).map(|home| home.join(".pgpass")));
        for host in &mut self.hosts {
            host.password = params
                .get("password")
                .map(Secret::from)
                .or_else(|| pgpass::password(file.as_deref()?, host, &self.database, &self.user));
        }
    }
}

impl PgHost {
    /// The directory of the socket, when this is no TCP host.
    pub fn socket(&self) -> Option<&Path> {
        self.name.starts_with('/').then(|| Path::new(&self.name))
    }
}

impl Secret {
    /// The password itself, for a client library.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `user@host:port/db` as a URL that psql understands, without the password.
impl fmt::Display for PgTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgres://{}@", self.user)?;
        for (index, host) in self.hosts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{host}")?;
        }
        write!(f, "/{}", self.database)?;
        match &self.hosts[..] {
            [PgHost { name, .. }] if name.starts_with('/') => write!(f, "?host={name}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for PgHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            name if name.starts_with('/') => write!(f, ":{}", self.port),
            name if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            name => write!(f, "{name}:{}", self.port),
        }
    }
}
