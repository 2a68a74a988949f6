//! What the operator decides, as typed values: parsed once, at the edge, passed down as structs.
//!
//! [`options`] has the flags and variables; here is what they become. Precedence: flag, then
//! environment, then `.env`, then default.

pub mod options;
mod origins;
mod values;

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

pub use origins::AllowedOrigins;
pub(crate) use values::retention;

use crate::postgres::{
    options::{DatabaseConfig, DatabaseOptionError},
    read_only::ReadOnlyConfig,
};

/// Everything `serve` needs to know.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// The database.
    pub database: DatabaseConfig,
    /// Where HTTP, WebSocket and SSE are served; port 0 takes a free one.
    pub http_addr: SocketAddr,
    /// Between two pings or heartbeat comments on one connection.
    pub heartbeat: Duration,
    /// Rounds kept in memory for each game.
    pub history: NonZeroUsize,
    /// Most rounds replayed to one connection.
    pub resume_limit: u32,
    /// How long outbox rows are kept.
    pub retention: Duration,
    /// How long connections may take to end when the process stops.
    pub shutdown_grace: Duration,
    /// Which pages may connect.
    pub allowed_origins: AllowedOrigins,
    /// Most connections at once.
    pub max_connections: usize,
    /// Most connections at once from one client address.
    pub max_connections_per_address: Option<NonZeroU32>,
    /// Most new connections in a second.
    pub max_connects_per_second: Option<NonZeroU32>,
    /// Threads that write to subscribers.
    pub shards: NonZeroUsize,
    /// WebTransport, where it is turned on.
    pub web_transport: Option<WebTransportConfig>,
    /// Work without our schema, by polling `finished_at`.
    pub read_only: Option<ReadOnlyConfig>,
}

/// How WebTransport is served.
#[derive(Clone, Debug)]
pub struct WebTransportConfig {
    /// The UDP address.
    pub addr: SocketAddr,
    /// Certificate chain and key; without them a self-signed certificate is made and rotated.
    pub certificate: Option<CertificateFiles>,
}

/// PEM files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's own first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A setting that cannot be used. One line, names the option.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A connection string or one of the `PG*` variables.
    #[error(transparent)]
    Database(#[from] DatabaseOptionError),
    /// A file's name is missing beside the other.
    #[error("--{given} ({given_variable}) needs --{missing} ({missing_variable}) beside it")]
    Incomplete {
        /// The flag that was given.
        given: &'static str,
        /// Its variable.
        given_variable: &'static str,
        /// The flag that was not.
        missing: &'static str,
        /// Its variable.
        missing_variable: &'static str,
    },
}
