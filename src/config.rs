//! The configuration as typed values: parsed once, then passed down as structs.
//!
//! [`options`] has the flags and variables, this module the values they become. Precedence: flag,
//! environment, `.env`, default.

pub(crate) mod access;
pub(crate) mod in_force;
mod node;
pub mod options;
mod origins;
mod proxies;
mod values;

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

pub use access::{AccessConfig, KeySource, KeyUrl};
pub use node::NodeName;
pub use origins::AllowedOrigins;
pub use proxies::TrustedProxies;
pub(crate) use values::{max_round, retention};

use crate::postgres::{
    options::{DatabaseConfig, DatabaseOptionError},
    read_only::ReadOnlyConfig,
};
pub use crate::stream::bus::BusConfig;

/// The configuration of `serve`.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where rounds come from.
    pub source: RoundSource,
    /// This server's name.
    pub node: NodeName,
    /// Address of HTTP, WebSocket and SSE. Port 0 takes a free port.
    pub http_addr: SocketAddr,
    /// Address of the internal listener, if there is one.
    pub internal_addr: Option<SocketAddr>,
    /// Who may listen. `None`: every client.
    pub access: Option<AccessConfig>,
    /// Time between two pings or heartbeat comments on one connection.
    pub heartbeat: Duration,
    /// Rounds kept in memory for each game.
    pub history: NonZeroUsize,
    /// Bytes for all that clients, the database and its content can make grow.
    pub memory: usize,
    /// Bytes of text in the extras of a round; rounds with more are skipped.
    pub max_round: usize,
    /// Most rounds replayed to one connection.
    pub resume_limit: u32,
    /// Most bytes replayed to one connection.
    pub resume_bytes: usize,
    /// How long outbox rows are kept.
    pub retention: Duration,
    /// How long connections may take to close when the process stops.
    pub shutdown_grace: Duration,
    /// The pages that may connect.
    pub allowed_origins: AllowedOrigins,
    /// Limit of open connections.
    pub max_connections: usize,
    /// Limit of open connections from one client address.
    pub max_connections_per_address: Option<NonZeroU32>,
    /// Limit of new connections in a second.
    pub max_connects_per_second: Option<NonZeroU32>,
    /// The proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: TrustedProxies,
    /// Threads that write to subscribers.
    pub shards: NonZeroUsize,
    /// The certificate of the HTTP port, which then speaks TLS only.
    pub tls: Option<CertificateFiles>,
    /// WebTransport, if it is on.
    pub web_transport: Option<WebTransportConfig>,
}

/// Where rounds come from.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub enum RoundSource {
    /// From the database.
    Database {
        /// The database.
        database: DatabaseConfig,
        /// The queries of the read-only mode, if it is on.
        read_only: Option<ReadOnlyConfig>,
    },
    /// From the bus: this server is an edge.
    Bus(EdgeConfig),
}

/// The configuration of an edge.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// How to reach the bus.
    pub bus: BusConfig,
    /// How far back its memory goes at its start.
    pub fill: Duration,
}

/// The configuration of `capture`.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// The database.
    pub database: DatabaseConfig,
    /// How to reach the bus.
    pub bus: BusConfig,
    /// This node's name.
    pub node: NodeName,
    /// Address of `/healthz`, `/readyz` and `/metrics`.
    pub http_addr: SocketAddr,
    /// Silence of the leader after which this node takes over.
    pub takeover: Duration,
    /// Rounds of each game with which a log begins.
    pub history: NonZeroUsize,
    /// How long outbox rows are kept.
    pub retention: Duration,
    /// Bytes for what the database's content can make grow.
    pub memory: usize,
    /// Bytes of text in the extras of a round; rounds with more are skipped.
    pub max_round: usize,
}

impl RoundSource {
    /// The same, with the server's name in `application_name`, and without larger rounds.
    fn of_node(self, node: &NodeName, max_round: usize) -> Self {
        match self {
            Self::Database { database, read_only } => {
                let database = database.of_node(&node.to_string()).with_max_round(max_round);
                Self::Database { database, read_only }
            }
            Self::Bus(edge) => Self::Bus(edge),
        }
    }

    /// From this database, as `serve` does by default.
    pub fn database(database: DatabaseConfig) -> Self {
        Self::Database { database, read_only: None }
    }
}

/// The configuration of WebTransport.
#[derive(Clone, Debug)]
pub struct WebTransportConfig {
    /// The UDP address.
    pub addr: SocketAddr,
    /// Certificate chain and key. Without them the server creates and renews a self-signed one.
    pub certificate: Option<CertificateFiles>,
}

/// PEM files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A setting that cannot be used. The message is one line and names the option.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A connection string or one of the `PG*` variables.
    #[error(transparent)]
    Database(#[from] DatabaseOptionError),
    /// An option cannot be used with this value, or beside others. Never quotes the value.
    #[error("--{flag} ({variable}) {why}")]
    Unusable {
        /// The flag.
        flag: &'static str,
        /// Its variable.
        variable: &'static str,
        /// What is expected.
        why: &'static str,
    },
    /// Two options exclude each other.
    #[error(
        "--{first} ({first_variable}) and --{second} ({second_variable}) exclude each other. \
         Set one of them."
    )]
    Exclusive {
        /// A flag.
        first: &'static str,
        /// Its variable.
        first_variable: &'static str,
        /// The other flag.
        second: &'static str,
        /// Its variable.
        second_variable: &'static str,
    },
    /// One of two options that belong together is missing.
    #[error(
        "--{given} ({given_variable}) needs --{missing} ({missing_variable}). Set both or neither."
    )]
    Incomplete {
        /// The flag that was given.
        given: &'static str,
        /// Its variable.
        given_variable: &'static str,
        /// The missing flag.
        missing: &'static str,
        /// Its variable.
        missing_variable: &'static str,
    },
    /// An option that the command needs is missing.
    #[error("--{flag} ({variable}) is missing. Set it.")]
    Missing {
        /// The flag.
        flag: &'static str,
        /// Its variable.
        variable: &'static str,
    },
    /// The memory could not hold a few rounds of the allowed size.
    #[error(
        "--max-round (DATASTREAM_MAX_ROUND) must be at most an eighth of --memory \
         (DATASTREAM_MEMORY, {memory} bytes). Lower the one or raise the other."
    )]
    RoundsTooLarge {
        /// The memory budget.
        memory: usize,
    },
}
