//! The options of `serve`: each is a flag and an environment variable.

pub mod bus;
mod capture;
mod read_only;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, builder::BoolishValueParser};

pub use self::{bus::BusOptions, capture::CaptureOptions, read_only::ReadOnlyOptions};
use super::{
    AllowedOrigins, CertificateFiles, ConfigError, EdgeConfig, NodeName, RoundSource, ServeConfig,
    TrustedProxies, WebTransportConfig, access::options::AccessOptions, values,
};
use crate::{ops::memory_budget, postgres::options::DatabaseOptions};

/// The options of `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeOptions {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// The read-only mode.
    #[command(flatten)]
    pub read_only: ReadOnlyOptions,

    /// The bus.
    #[command(flatten)]
    pub bus: BusOptions,

    /// The options of the server.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// The options that `serve` and `demo` share.
#[derive(Args, Clone, Debug)]
pub struct ServerOptions {
    /// HTTP options.
    #[command(flatten)]
    pub http: HttpOptions,

    /// Who may listen.
    #[command(flatten)]
    pub access: AccessOptions,

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

/// HTTP.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct HttpOptions {
    /// Address and port of HTTP, WebSocket and SSE. Port 0 takes a free port and logs it.
    #[arg(long, env = "DATASTREAM_HTTP_ADDR", value_name = "ADDR:PORT")]
    #[arg(default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 3000))]
    pub http_addr: SocketAddr,

    /// PEM file with the certificate chain of HTTP, WebSocket and SSE, which then speak TLS 1.2 and
    /// 1.3 only. The server reloads it when it changes. WebTransport uses it too, unless --wt-cert
    /// is set. Default: no TLS.
    #[arg(long, env = "DATASTREAM_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key of --tls-cert.
    #[arg(long, env = "DATASTREAM_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Address and port of a second listener for /metrics, /healthz and /readyz: plain HTTP without
    /// tokens, until the process ends. /metrics is there alone then. Keep the port private.
    #[arg(long, env = "DATASTREAM_INTERNAL_ADDR", value_name = "ADDR:PORT")]
    pub internal_addr: Option<SocketAddr>,

    /// This server's name in logs, in application_name and on /readyz of the internal listener.
    /// Default: the host name.
    #[arg(long, env = "DATASTREAM_NODE", value_name = "NAME")]
    pub node: Option<NodeName>,

    /// Pages that may connect: * or origins separated by commas (https://game.example), null
    /// included. Applies to CORS, WebSocket and WebTransport. Other pages get 403.
    #[arg(long, env = "DATASTREAM_ALLOWED_ORIGINS", value_name = "ORIGINS", default_value = "*")]
    pub allowed_origins: AllowedOrigins,
}

/// WebTransport.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "WebTransport")]
pub struct WebTransportOptions {
    /// Serve WebTransport (HTTP/3) too.
    #[arg(long, env = "DATASTREAM_WT_ENABLED")]
    #[arg(num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    #[arg(require_equals = true, value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    pub wt_enabled: bool,

    /// UDP address and port of WebTransport. [::] includes IPv4.
    #[arg(long, env = "DATASTREAM_WT_ADDR", value_name = "ADDR:PORT")]
    #[arg(default_value_t = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 4433))]
    pub wt_addr: SocketAddr,

    /// PEM file with the certificate chain. The server reloads it when it changes. Default: a
    /// self-signed certificate, renewed before it expires, whose hash is at /wt/certificate.
    #[arg(long, env = "DATASTREAM_WT_CERT", value_name = "FILE")]
    pub wt_cert: Option<PathBuf>,

    /// PEM file with the certificate's private key.
    #[arg(long, env = "DATASTREAM_WT_KEY", value_name = "FILE")]
    pub wt_key: Option<PathBuf>,
}

/// Streaming.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streaming")]
pub struct StreamingOptions {
    /// Time between pings and heartbeat comments, 10ms to 1h. Lower: more traffic on idle
    /// connections. Higher: dead clients stay longer (two heartbeats), and proxies close idle
    /// connections.
    #[arg(long, env = "DATASTREAM_HEARTBEAT", value_name = "DURATION")]
    #[arg(value_parser = values::heartbeat, default_value = "15s")]
    pub heartbeat: Duration,

    /// Rounds of each game kept in memory for resume. Lower: more resumes query the database.
    /// Higher: more memory, about 1 KB a round.
    #[arg(long, env = "DATASTREAM_HISTORY", value_name = "ROUNDS", default_value = "1024")]
    pub history: NonZeroUsize,

    /// How long finished rounds stay in the outbox for resume. Lower: clients that were offline
    /// longer start over. Higher: a larger table.
    #[arg(long, env = "DATASTREAM_RETENTION", value_name = "DURATION")]
    #[arg(value_parser = values::retention, default_value = "24h")]
    pub retention: Duration,

    /// How long connections may take to close when the server stops. Lower: slow clients lose
    /// their connection. Higher: a restart takes longer. Set the supervisor's limit above this.
    #[arg(long, env = "DATASTREAM_SHUTDOWN_GRACE", value_name = "DURATION")]
    #[arg(value_parser = values::grace, default_value = "10s")]
    pub shutdown_grace: Duration,
}

/// Limits.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// Open connections. Further streams get 503. A connection without a request counts too, and
    /// the oldest of those is closed first. The hard limit on open files (ulimit -Hn) may allow
    /// fewer. Lower: clients are refused. Higher: more memory.
    #[arg(long, env = "DATASTREAM_MAX_CONNECTIONS", value_name = "CONNECTIONS")]
    #[arg(default_value = "100000")]
    pub max_connections: NonZeroUsize,

    /// Open connections from one client address (for IPv6: from one /64 network). Further streams
    /// get 503. Default: no limit. Behind a proxy it needs --trusted-proxies: otherwise all clients
    /// have the proxy's address.
    #[arg(long, env = "DATASTREAM_MAX_CONNECTIONS_PER_ADDRESS", value_name = "CONNECTIONS")]
    pub max_connections_per_address: Option<NonZeroU32>,

    /// Networks of the proxies in front, as CIDRs separated by commas (10.0.0.0/8,fd00::/8). Behind
    /// them, the client's address is the last one of X-Forwarded-For that is not in these networks.
    /// Without that header it is unknown, and no limit by address applies. Default: none.
    #[arg(long, env = "DATASTREAM_TRUSTED_PROXIES", value_name = "CIDRS")]
    pub trusted_proxies: Option<TrustedProxies>,

    /// New streams in a second. Further clients get 503. An EventSource is told to retry after 2 s
    /// instead, because 503 would stop it for good. Default: no limit. Lower: clients take longer
    /// to reconnect after a restart.
    #[arg(long, env = "DATASTREAM_MAX_CONNECTS_PER_SECOND", value_name = "CONNECTS")]
    pub max_connects_per_second: Option<NonZeroU32>,

    /// Threads that write to subscribers. Default: one for each core. Lower: rounds take longer to
    /// reach the last of many subscribers. Higher: threads compete for the cores.
    #[arg(long, env = "DATASTREAM_SHARDS", value_name = "THREADS")]
    pub shards: Option<NonZeroUsize>,

    /// Memory for all that can grow: connections, history, seeds, replays, lists, queues. Each has a
    /// share. Beyond it new clients get 503, and live streams go on. Default: half of the cgroup's
    /// limit, otherwise a quarter of the machine's memory; at most 2GiB, at least 64MiB.
    #[arg(long, env = "DATASTREAM_MEMORY", value_name = "BYTES", value_parser = values::memory)]
    pub memory: Option<usize>,

    /// Most text in the extras of a round. Rounds with more are skipped. Higher: fewer rounds fit
    /// into the memory.
    #[arg(long, env = "DATASTREAM_MAX_ROUND", value_name = "BYTES", default_value = "1MiB")]
    #[arg(value_parser = values::max_round)]
    pub max_round: usize,

    /// Limit of rounds replayed to one connection that resumes. Lower: clients start over sooner.
    /// Higher: one client may use more database time and memory.
    #[arg(long, env = "DATASTREAM_RESUME_LIMIT", value_name = "ROUNDS", default_value = "10000")]
    pub resume_limit: u32,

    /// Limit of bytes replayed to one connection that resumes. Lower: clients start over sooner.
    /// Higher: one client may use more database time.
    #[arg(long, env = "DATASTREAM_RESUME_BYTES", value_name = "BYTES", default_value = "16MiB")]
    #[arg(value_parser = values::resume_bytes)]
    pub resume_bytes: usize,
}

impl ServeOptions {
    /// The configuration from these options and the variables `env`.
    pub fn resolve(self, env: impl Fn(&str) -> Option<String>) -> Result<ServeConfig, ConfigError> {
        let node = self.server.node();
        let (fill, read_only) = (self.bus.bus_fill, self.read_only.resolve());
        let source = match (self.bus.resolve(&node.to_string())?, read_only) {
            (Some(_), Some(_)) => return Err(READ_ONLY_OR_BUS),
            (Some(bus), None) => RoundSource::Bus(EdgeConfig { bus, fill }),
            (None, read_only) => {
                RoundSource::Database { database: self.database.resolve(env)?, read_only }
            }
        };
        self.server.resolve(source)
    }
}

const READ_ONLY_OR_BUS: ConfigError = ConfigError::Exclusive {
    first: "read-only",
    first_variable: "DATASTREAM_READ_ONLY",
    second: "bus",
    second_variable: "DATASTREAM_BUS",
};

impl ServerOptions {
    /// The name of the server.
    fn node(&self) -> NodeName {
        self.http.node.clone().unwrap_or_else(NodeName::of_host)
    }

    /// The configuration for a server of these rounds.
    pub fn resolve(self, source: RoundSource) -> Result<ServeConfig, ConfigError> {
        let node = self.node();
        let Pair { cert, key } = TLS;
        let tls = certificate((self.http.tls_cert, cert), (self.http.tls_key, key))?;
        let memory = self.limits.memory.unwrap_or_else(memory_budget::default_limit);
        if self.limits.max_round > memory / 8 {
            return Err(ConfigError::RoundsTooLarge { memory });
        }
        Ok(ServeConfig {
            source: source.of_node(&node, self.limits.max_round),
            node,
            memory,
            max_round: self.limits.max_round,
            resume_bytes: self.limits.resume_bytes,
            http_addr: self.http.http_addr,
            internal_addr: self.http.internal_addr,
            access: self.access.resolve(&self.http.allowed_origins)?,
            heartbeat: self.streaming.heartbeat,
            history: self.streaming.history,
            resume_limit: self.limits.resume_limit,
            retention: self.streaming.retention,
            shutdown_grace: self.streaming.shutdown_grace,
            allowed_origins: self.http.allowed_origins,
            max_connections: self.limits.max_connections.get(),
            max_connections_per_address: self.limits.max_connections_per_address,
            max_connects_per_second: self.limits.max_connects_per_second,
            trusted_proxies: self.limits.trusted_proxies.unwrap_or_default(),
            shards: self.limits.shards.unwrap_or_else(cores),
            web_transport: self.web_transport.resolve()?.map(|config| WebTransportConfig {
                certificate: config.certificate.or_else(|| tls.clone()),
                ..config
            }),
            tls,
        })
    }
}

impl WebTransportOptions {
    /// The configuration, or `None` if WebTransport is off.
    pub fn resolve(self) -> Result<Option<WebTransportConfig>, ConfigError> {
        let Pair { cert, key } = WEB_TRANSPORT;
        let certificate = certificate((self.wt_cert, cert), (self.wt_key, key))?;
        let config = WebTransportConfig { addr: self.wt_addr, certificate };
        Ok(self.wt_enabled.then_some(config))
    }
}

/// The number of cores that this process may use, or one if the system does not report it.
pub(super) fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The flags and variables of a certificate and its key.
struct Pair {
    cert: (&'static str, &'static str),
    key: (&'static str, &'static str),
}

const TLS: Pair =
    Pair { cert: ("tls-cert", "DATASTREAM_TLS_CERT"), key: ("tls-key", "DATASTREAM_TLS_KEY") };
const WEB_TRANSPORT: Pair =
    Pair { cert: ("wt-cert", "DATASTREAM_WT_CERT"), key: ("wt-key", "DATASTREAM_WT_KEY") };

/// The files of a certificate: both or neither.
fn certificate(
    (chain, cert_names): (Option<PathBuf>, (&'static str, &'static str)),
    (key, key_names): (Option<PathBuf>, (&'static str, &'static str)),
) -> Result<Option<CertificateFiles>, ConfigError> {
    match (chain, key) {
        (Some(chain), Some(key)) => Ok(Some(CertificateFiles { chain, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(incomplete(cert_names, key_names)),
        (None, Some(_)) => Err(incomplete(key_names, cert_names)),
    }
}

fn incomplete(
    (given, given_variable): (&'static str, &'static str),
    (missing, missing_variable): (&'static str, &'static str),
) -> ConfigError {
    ConfigError::Incomplete { given, given_variable, missing, missing_variable }
}

#[cfg(test)]
mod tests;
