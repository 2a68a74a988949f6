//! Resolves connection strings for both client libraries.
//!
//! The two libraries read connection strings differently (one refuses `sslmode=verify-full` and
//! never reads `~/.pgpass`, the other refuses `host=/run/postgresql dbname=x` and lists of hosts).
//! So this module resolves the string, the `PG*` variables, the password file and libpq's defaults
//! by libpq's rules, and each library is configured from the result. It reads files
//! (`~/.postgresql`, socket directories, for each connection the password file) and never uses the
//! network.

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

/// The servers, the role, the database and the connection settings.
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
    /// Settings from `options=-c name=value`.
    pub options: Vec<(String, String)>,
    /// The beginning of `application_name`. Each use appends its own word.
    pub application: String,
    /// The name of this server, which ends `application_name`.
    pub node: Option<String>,
    /// The limit for the connection to one server.
    pub connect_timeout: Duration,
    /// TCP keep-alives, or `None` if they are off.
    pub keepalives: Option<Keepalives>,
    /// How long sent data may stay unacknowledged. Zero means the system's default.
    pub tcp_user_timeout: Duration,
    /// Whether a read-only server is skipped.
    pub read_write: bool,
    /// Whether the hosts are tried in random order.
    pub balance: bool,
    /// Whether authentication must be bound to the TLS session.
    pub channel_binding: ChannelBinding,
    /// The password file, read for each connection: a rotated password needs no restart.
    pub password_file: Option<PathBuf>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgHost {
    /// A name, an address, or a socket directory (begins with `/`).
    pub name: String,
    /// The address to connect to instead of resolving the name.
    pub address: Option<IpAddr>,
    /// The port, which is also part of a socket's name.
    pub port: u16,
    /// The password of the connection string or of PGPASSWORD.
    pub password: Option<Secret>,
}

/// A password. Prints as stars.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// The encryption of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Whether to encrypt and what to verify.
    pub mode: SslMode,
    /// PEM file with the authorities to trust, or `None` for the system's.
    pub roots: Option<PathBuf>,
    /// PEM files of our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server supports it. libpq tries without encryption first: the result
    /// differs only on a server that accepts both.
    Allow,
    /// Encrypted if the server supports it.
    Prefer,
    /// Encrypted. The server's certificate is not verified.
    Require,
    /// Encrypted. The certificate must be from a trusted authority.
    VerifyCa,
    /// Encrypted. The certificate must be from a trusted authority and for this host name.
    VerifyFull,
}

/// libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Not used.
    Disable,
    /// Used if both sides support it.
    Prefer,
    /// Required on the LISTEN connection (the query pool's library cannot bind).
    Require,
}

/// TCP keep-alives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalives {
    /// Idle time before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes after which the connection counts as dead.
    pub count: u32,
}

/// Why a connection string cannot be used. It never quotes the string, which may have a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL and not `key=value` pairs either.
    #[error("{0}")]
    Malformed(&'static str),
    /// A parameter that libpq does not know.
    #[error("unknown connection parameter `{0}`. Remove it.")]
    Unknown(String),
    /// A parameter that libpq supports and we do not.
    #[error("`{name}` is not supported: {reason}")]
    Unsupported {
        /// The parameter or the variable.
        name: String,
        /// The reason, or the alternative.
        reason: &'static str,
    },
    /// An invalid value.
    #[error("`{name}` must be {expected}")]
    Value {
        /// The parameter or the variable.
        name: String,
        /// The accepted values.
        expected: &'static str,
    },
    /// Neither the string nor the system names a user.
    #[error("no user name. Set one in the URL (postgres://USER@…) or in PGUSER.")]
    NoUser,
}

impl PgTarget {
    /// Resolves a URL or `key=value` string by libpq's rules. Missing values come from the `PG*`
    /// variables, then from the password file, then from the defaults.
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
        let password_file = params.get("passfile").map(PathBuf::from);
        let password_file =
            password_file.or_else(|| defaults::home(&env).map(|home| home.join(".pgpass")));
        let mut target = Self {
            hosts: params.hosts()?,
            password_file,
            tls: params.tls(&env)?,
            options: options::parse(&params)?,
            application: params.get("application_name").unwrap_or("datastream").to_owned(),
            node: None,
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
        let password = params.get("password").map(Secret::from);
        target.hosts.iter_mut().for_each(|host| host.password = password.clone());
        Ok(target)
    }

    /// `application_name` for one use: `datastream listen`, `datastream query`, and of a server
    /// `datastream query edge-1`.
    pub fn application_name(&self, used_for: &str) -> String {
        match &self.node {
            None => format!("{} {used_for}", self.application),
            Some(node) => format!("{} {used_for} {node}", self.application),
        }
    }

    /// The hosts, in the order of the attempts.
    pub fn candidates(&self) -> Vec<&PgHost> {
        let mut hosts: Vec<_> = self.hosts.iter().collect();
        if self.balance {
            fastrand::shuffle(&mut hosts);
        }
        hosts
    }

    /// The password for this server by now.
    pub fn password(&self, host: &PgHost) -> Option<Secret> {
        host.password.clone().or_else(|| {
            pgpass::password(self.password_file.as_deref()?, host, &self.database, &self.user)
        })
    }
}

impl PgHost {
    /// The directory of the socket, or `None` for a TCP host.
    pub fn socket(&self) -> Option<&Path> {
        self.name.starts_with('/').then(|| Path::new(&self.name))
    }
}

impl Secret {
    /// The plain password, for a client library.
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
