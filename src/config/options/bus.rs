//! The bus, as flags and variables.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::certificate;
use crate::{
    config::{ConfigError, values},
    stream::bus::{BusConfig, BusUrl, InvalidBusUrl},
};

/// NATS JetStream, for servers without a database. See docs/scale-out.md.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Bus")]
pub struct BusOptions {
    /// NATS with JetStream, 2.12.1 or later: nats://host:4222 or tls://host:4222, several hosts
    /// separated by commas, each with user:password@ if needed. `serve` then gets its rounds from
    /// there and needs no database. Default: no bus.
    #[arg(long, env = "DATASTREAM_BUS", hide_env_values = true, value_name = "URL")]
    pub bus: Option<String>,

    /// Name of the stream, which `bus create` makes. Several databases on one NATS: another name and
    /// another --bus-prefix for each.
    #[arg(long, env = "DATASTREAM_BUS_STREAM", value_name = "NAME", default_value = "DATASTREAM")]
    #[arg(value_parser = stream_name)]
    pub bus_stream: String,

    /// First tokens of every subject on the bus.
    #[arg(
        long,
        env = "DATASTREAM_BUS_PREFIX",
        value_name = "TOKENS",
        default_value = "datastream"
    )]
    #[arg(value_parser = prefix)]
    pub bus_prefix: String,

    /// File with the credentials of NATS (JWT and nkey), as `nsc` writes it. Default: user and
    /// password of the URL.
    #[arg(long, env = "DATASTREAM_BUS_CREDS", value_name = "FILE")]
    pub bus_creds: Option<PathBuf>,

    /// PEM file of the certificate authority of NATS, besides the system's.
    #[arg(long, env = "DATASTREAM_BUS_CA", value_name = "FILE")]
    pub bus_ca: Option<PathBuf>,

    /// PEM file with a client certificate for NATS.
    #[arg(long, env = "DATASTREAM_BUS_CERT", value_name = "FILE")]
    pub bus_cert: Option<PathBuf>,

    /// PEM file with the private key of --bus-cert.
    #[arg(long, env = "DATASTREAM_BUS_KEY", value_name = "FILE")]
    pub bus_key: Option<PathBuf>,

    /// JetStream domain of the region's mirror. Default: the domain of the NATS that it connects to.
    #[arg(long, env = "DATASTREAM_BUS_DOMAIN", value_name = "DOMAIN")]
    pub bus_domain: Option<String>,

    /// How far back the memory of an edge goes at its start, at most 1,000,000 messages. Lower: more
    /// resumes ask a capture node after a restart. Higher: a start takes longer.
    #[arg(long, env = "DATASTREAM_BUS_FILL", value_name = "DURATION", default_value = "10m")]
    #[arg(value_parser = values::bus_fill)]
    pub bus_fill: Duration,

    /// Silence of the leading capture node after which another one takes over, 1s to 1min. Lower: a
    /// slow leader is replaced needlessly. Higher: rounds wait longer when it is killed.
    #[arg(long, env = "DATASTREAM_BUS_TAKEOVER", value_name = "DURATION", default_value = "2s")]
    #[arg(value_parser = values::bus_takeover)]
    pub bus_takeover: Duration,
}

impl BusOptions {
    /// How this server reaches the bus; `None` without one.
    pub fn resolve(self, node: &str) -> Result<Option<BusConfig>, ConfigError> {
        let Some(url) = &self.bus else { return Ok(None) };
        let unusable = |InvalidBusUrl| ConfigError::Unusable {
            flag: "bus",
            variable: "DATASTREAM_BUS",
            why: "must be nats://host:port or tls://host:port, several hosts separated by commas",
        };
        let url: BusUrl = url.parse().map_err(unusable)?;
        let certificate = certificate((self.bus_cert, CERT), (self.bus_key, KEY))?;
        Ok(Some(BusConfig {
            url,
            stream: self.bus_stream,
            prefix: self.bus_prefix,
            creds: self.bus_creds,
            ca: self.bus_ca,
            certificate: certificate.map(|files| (files.chain, files.key)),
            domain: self.bus_domain,
            node: node.to_owned(),
        }))
    }
}

const CERT: (&str, &str) = ("bus-cert", "DATASTREAM_BUS_CERT");
const KEY: (&str, &str) = ("bus-key", "DATASTREAM_BUS_KEY");

/// A stream's name has no white space, dots or wildcards (NATS, "Streams").
fn stream_name(text: &str) -> Result<String, String> {
    let is_allowed = |char: char| char.is_ascii_graphic() && !".*>/\\".contains(char);
    if !text.is_empty() && text.len() <= 128 && text.chars().all(is_allowed) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 128 characters without spaces, dots, *, >, / and \\".to_owned())
}

/// Tokens of a subject: the program makes the others.
fn prefix(text: &str) -> Result<String, String> {
    let is_token = |token: &str| {
        let is_allowed = |char: char| char.is_ascii_alphanumeric() || "_-".contains(char);
        !token.is_empty() && token.chars().all(is_allowed)
    };
    if text.len() <= 128 && text.split('.').all(is_token) {
        return Ok(text.to_owned());
    }
    Err("must be letters, digits, _ and -, in tokens separated by dots".to_owned())
}
