//! The options of `serve` and `migrate`: each a flag and an environment variable.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, builder::BoolishValueParser};

use super::{
    AllowedOrigins, CertificateFiles, ConfigError, ServeConfig, WebTransportConfig, values,
};
use crate::postgres::{
    options::{DatabaseConfig, DatabaseOptions},
    read_only::ReadOnlyConfig,
};

/// What `serve` can be told.
#[derive(Args, Clone, Debug)]
pub struct ServeOptions {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// Whether to work without our schema.
    #[command(flatten)]
    pub read_only: ReadOnlyOptions,

    /// Everything but the database.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// How to work without our schema, where not even a trigger may be added.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Read-only")]
pub struct ReadOnlyOptions {
    /// Work without our schema: read `finished_at` every quarter of a second. A round that is
    /// committed later than the overlap allows is lost; docs/guarantees.md has the rest.
    #[arg(long, env = "DATASTREAM_READ_ONLY")]
    #[arg(num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    #[arg(require_equals = true, value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    pub read_only: bool,

    /// The query for rounds: round_id, game_id, finished_at (with time zone), extras. Wants an
    /// index on finished_at.
    #[arg(long, env = "DATASTREAM_READ_ONLY_ROUNDS", value_name = "SQL")]
    #[arg(
        default_value = "select id as round_id, game_id, finished_at, extras from public.rounds"
    )]
    pub read_only_rounds: String,

    /// The query for games: id, slug, name, type.
    #[arg(long, env = "DATASTREAM_READ_ONLY_GAMES", value_name = "SQL")]
    #[arg(default_value = "select id, slug, name, type from public.games")]
    pub read_only_games: String,

    /// How long after its finished_at a round may be committed and still be found. Lower: late
    /// commits are lost. Higher: each poll reads more.
    #[arg(long, env = "DATASTREAM_READ_ONLY_OVERLAP", value_name = "DURATION")]
    #[arg(value_parser = values::retention, default_value = "10s")]
    pub read_only_overlap: Duration,
}

/// What `serve` and `demo` can both be told.
#[derive(Args, Clone, Debug)]
pub struct ServerOptions {
    /// HTTP options.
    #[command(flatten)]
    pub http: HttpOptions,

    /// WebTransport options.
    #[command(flatten)]
    pub web_transport: WebTransportOptions,

    /// Streaming options.
    #[command(flatten)]
    pub streaming: StreamingOptions,

    /// Limits.
    #[command(flatten)]
    pub limits: LimitOptions,
}

/// Where clients come in.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct HttpOptions {
    /// Address and port of HTTP, WebSocket and SSE; port 0 takes a free one and logs it.
    #[arg(long, env = "DATASTREAM_HTTP_ADDR", value_name = "ADDR:PORT")]
    #[arg(default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 3000))]
    pub http_addr: SocketAddr,

    /// Pages that may connect: * or origins separated by commas (https://game.example). Guards
    /// CORS, WebSocket and WebTransport; a list that is too short answers 403 to the page.
    #[arg(long, env = "DATASTREAM_ALLOWED_ORIGINS", value_name = "ORIGINS", default_value = "*")]
    pub allowed_origins: AllowedOrigins,
}

/// The UDP door.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "WebTransport")]
pub struct WebTransportOptions {
    /// Serve WebTransport (HTTP/3) as well.
    #[arg(long, env = "DATASTREAM_WT_ENABLED")]
    #[arg(num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    #[arg(require_equals = true, value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    pub wt_enabled: bool,

    /// UDP address and port of WebTransport; [::] is IPv4 as well.
    #[arg(long, env = "DATASTREAM_WT_ADDR", value_name = "ADDR:PORT")]
    #[arg(default_value_t = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 4433))]
    pub wt_addr: SocketAddr,

    /// PEM file with the certificate chain, reloaded when it changes. Default: a self-signed
    /// certificate, rotated in time, whose hash is at /wt/certificate.
    #[arg(long, env = "DATASTREAM_WT_CERT", value_name = "FILE")]
    pub wt_cert: Option<PathBuf>,

    /// PEM file with the certificate's private key.
    #[arg(long, env = "DATASTREAM_WT_KEY", value_name = "FILE")]
    pub wt_key: Option<PathBuf>,
}

/// How rounds are streamed.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streaming")]
pub struct StreamingOptions {
    /// Time between pings and heartbeat comments, 10ms to 1h. Lower: more traffic on idle
    /// connections. Higher: dead peers stay longer (two heartbeats), and proxies cut idle links.
    #[arg(long, env = "DATASTREAM_HEARTBEAT", value_name = "DURATION")]
    #[arg(value_parser = values::heartbeat, default_value = "15s")]
    pub heartbeat: Duration,

    /// Rounds of each game kept in memory for resume. Lower: more resumes ask the database.
    /// Higher: more memory, about 1 KB a round.
    #[arg(long, env = "DATASTREAM_HISTORY", value_name = "ROUNDS", default_value = "1024")]
    pub history: NonZeroUsize,

    /// How long finished rounds stay in the outbox for resume. Lower: clients that were away
    /// longer start over. Higher: a larger table.
    #[arg(long, env = "DATASTREAM_RETENTION", value_name = "DURATION")]
    #[arg(value_parser = values::retention, default_value = "24h")]
    pub retention: Duration,

    /// How long connections may take to end when the server stops. Lower: slow clients are cut
    /// off. Higher: a restart waits longer for them; give the supervisor more than this.
    #[arg(long, env = "DATASTREAM_SHUTDOWN_GRACE", value_name = "DURATION")]
    #[arg(value_parser = values::grace, default_value = "10s")]
    pub shutdown_grace: Duration,
}

/// What one client, and all of them, may take.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// Streams at once; one more is answered with 503. The limit on open files (ulimit -n; its
    /// hard value is taken) may leave less. Lower: clients are turned away. Higher: more memory.
    #[arg(long, env = "DATASTREAM_MAX_CONNECTIONS", value_name = "CONNECTIONS")]
    #[arg(default_value = "100000")]
    pub max_connections: NonZeroUsize,

    /// Streams at once from one client address (of IPv6: from one /64 network); one more is
    /// answered with 503. Default: no limit. Behind a proxy all clients have the proxy's address.
    #[arg(long, env = "DATASTREAM_MAX_CONNECTIONS_PER_ADDRESS", value_name = "CONNECTIONS")]
    pub max_connections_per_address: Option<NonZeroU32>,

    /// New streams in a second; one more is answered with 503, and an EventSource, which 503 would
    /// end for good, sent back after 2 s. Default: no limit. Lower: after a restart it takes longer
    /// until all clients are back.
    #[arg(long, env = "DATASTREAM_MAX_CONNECTS_PER_SECOND", value_name = "CONNECTS")]
    pub max_connects_per_second: Option<NonZeroU32>,

    /// Threads that write to subscribers. Default: one for each core. Lower: rounds take longer to
    /// reach the last of many subscribers. Higher: threads wait for each other.
    #[arg(long, env = "DATASTREAM_SHARDS", value_name = "THREADS")]
    pub shards: Option<NonZeroUsize>,

    /// Most rounds replayed to one connection that resumes. Lower: clients start over sooner.
    /// Higher: one client may cost more database time and memory.
    #[arg(long, env = "DATASTREAM_RESUME_LIMIT", value_name = "ROUNDS", default_value = "10000")]
    pub resume_limit: u32,
}

impl ServeOptions {
    /// The configuration that these options and the variables `env` make.
    pub fn resolve(self, env: impl Fn(&str) -> Option<String>) -> Result<ServeConfig, ConfigError> {
        let database = self.database.resolve(env)?;
        let read_only = self.read_only.resolve();
        Ok(ServeConfig { read_only, ..self.server.resolve(database)? })
    }
}

impl ReadOnlyOptions {
    /// The two queries; none where our schema is read.
    pub fn resolve(self) -> Option<ReadOnlyConfig> {
        self.read_only.then_some(ReadOnlyConfig {
            rounds: self.read_only_rounds,
            games: self.read_only_games,
            overlap: self.read_only_overlap,
        })
    }
}

impl ServerOptions {
    /// The configuration for a server of this database.
    pub fn resolve(self, database: DatabaseConfig) -> Result<ServeConfig, ConfigError> {
        Ok(ServeConfig {
            database,
            http_addr: self.http.http_addr,
            heartbeat: self.streaming.heartbeat,
            history: self.streaming.history,
            resume_limit: self.limits.resume_limit,
            retention: self.streaming.retention,
            shutdown_grace: self.streaming.shutdown_grace,
            allowed_origins: self.http.allowed_origins,
            max_connections: self.limits.max_connections.get(),
            max_connections_per_address: self.limits.max_connections_per_address,
            max_connects_per_second: self.limits.max_connects_per_second,
            shards: self.limits.shards.unwrap_or_else(cores),
            web_transport: self.web_transport.resolve()?,
            read_only: None,
        })
    }
}

impl WebTransportOptions {
    /// The configuration; `None` where it is off.
    pub fn resolve(self) -> Result<Option<WebTransportConfig>, ConfigError> {
        let certificate = match (self.wt_cert, self.wt_key) {
            (Some(chain), Some(key)) => Some(CertificateFiles { chain, key }),
            (None, None) => None,
            (Some(_), None) => return Err(incomplete(CERT, KEY)),
            (None, Some(_)) => return Err(incomplete(KEY, CERT)),
        };
        let config = WebTransportConfig { addr: self.wt_addr, certificate };
        Ok(self.wt_enabled.then_some(config))
    }
}

/// The cores that this process may use; one where the system does not tell.
fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

const CERT: (&str, &str) = ("wt-cert", "DATASTREAM_WT_CERT");
const KEY: (&str, &str) = ("wt-key", "DATASTREAM_WT_KEY");

fn incomplete(
    (given, given_variable): (&'static str, &'static str),
    (missing, missing_variable): (&'static str, &'static str),
) -> ConfigError {
    ConfigError::Incomplete { given, given_variable, missing, missing_variable }
}

#[cfg(test)]
mod tests;
