//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// Attacks a server of its own, and measures what others notice.
///
/// Fails if a health check takes longer than a second, a new stream is refused, or the steady
/// subscriber loses a round.
#[derive(Clone, Debug, Parser)]
#[command(name = "attack")]
pub(crate) struct Options {
    /// The attack
    #[arg(value_enum)]
    pub(crate) attack: Attack,

    /// Connections, or notifications [default: that of the bar]
    #[arg(long)]
    pub(crate) count: Option<usize>,

    /// How long the attack goes on
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Duration,

    /// How long the server may take to release memory once the attackers left
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) rest: Duration,

    /// How often the attackers come; only the last time is measured. Memory that grows with each
    /// wave is a leak
    #[arg(long, default_value = "1")]
    pub(crate) waves: u32,

    /// The server speaks TLS, as for `tls-connects`
    #[arg(long)]
    pub(crate) tls: bool,

    /// The server asks for tokens, as for `bad-tokens`
    #[arg(long)]
    pub(crate) tokens: bool,

    /// Nobody reads the server's log once it listens
    #[arg(long)]
    pub(crate) unread_log: bool,

    /// Limit on open files of the server
    #[arg(long)]
    pub(crate) files: Option<u32>,

    /// Program of the server [default: `datastream` of the same build]
    #[arg(long = "server")]
    pub(crate) program: Option<PathBuf>,

    /// A variable for the server, NAME=value; may be repeated
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) variables: Vec<(String, String)>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "must be a number of seconds".to_owned())
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What strangers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attack {
    /// 4,000 connections that send nothing. Bar: with --files 1024, 5 of 5 health checks answered
    /// and a new stream accepted
    Silent,
    /// 5,000 connections that stay after one request each. Bar: at most 1,024 open, 50 MB
    KeepAlive,
    /// 4,000 request heads, a byte of each now and then
    SlowHead,
    /// 50 WebSockets that send pings without end. Bar: twice the delays of `burner`
    WsPings,
    /// 50 WebSockets that send messages without end
    WsMessages,
    /// 50 WebSockets that send empty fragments without end
    WsFragments,
    /// A thread for each core that computes: what floods are compared with
    Burner,
    /// 1,200 QUIC connections without a WebTransport request
    WtHandshakes,
    /// 1,000 lists of 1,000 rounds that nobody reads. Bar: 40 MB above the memory limit
    UnreadLists,
    /// 200 replays of 1,500 rounds of 10 KB that nobody reads
    UnreadReplays,
    /// 1,500 seeds that nobody reads, beside a round at the size limit
    UnreadSeeds,
    /// 400 connections with another resume point each. Bar: a resume of another client in 1 s
    ResumePoints,
    /// A start beside 10,000 rounds of 300 KB in 10 games. Bar: ready in 15 s, 100 MB above the
    /// memory limit
    LargeStart,
    /// 10,000 WebSockets that connect with TLS. Bar: twice the delays of `burner --tls`
    TlsConnects,
    /// 50 connections that ask with tokens of a wrong key without end. Compare with `burner --tokens`
    BadTokens,
    /// 100,000 notifications that no server sent. Bar: no round later than 1 s
    Notifications,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
