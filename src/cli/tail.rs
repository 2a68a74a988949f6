//! `datastream tail`: prints the rounds of a running server, received over WebSocket.
//!
//! It reconnects and resumes after the last printed round, so that an outage loses none. A round
//! that a restarted server repeats is printed once.

mod line;
mod socket;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use anyhow::Context;
use clap::Args;

use self::{
    line::{Printer, Repeats},
    socket::{Address, BearerToken, End, RoundSocket},
};
use crate::{
    ops::{backoff::Backoff, shutdown::Shutdown},
    stream::round::RoundId,
};

/// Only problems are logged: stdout has the rounds.
pub const LOG_FILTER: &str = "warn";

/// The options of `tail`.
#[derive(Args, Clone, Debug)]
pub struct TailOptions {
    /// Slug of a game. Without it and --type, rounds of all games are printed.
    pub game: Option<String>,

    /// Print the rounds of all games of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,

    /// URL of the server.
    #[arg(long, env = "DATASTREAM_URL", default_value = "http://localhost:3000")]
    pub url: Address,

    /// Start after the round with this round_id instead of with the latest round.
    #[arg(long, value_name = "ROUND_ID")]
    pub after: Option<RoundId>,

    /// Token for a server that needs one. Other users of the machine can read a flag: set the
    /// variable instead.
    #[arg(long, env = "DATASTREAM_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<BearerToken>,

    /// Print rounds as the server sends them: one JSON object per line.
    #[arg(long)]
    pub json: bool,
}

/// Prints rounds until a shutdown is requested or stdout is closed.
pub async fn run(options: TailOptions, shutdown: &Shutdown) -> anyhow::Result<()> {
    let printed = Tail::new(options, io::stdout());
    tokio::select! {
        outcome = printed.run() => outcome,
        () = shutdown.requested() => Ok(()),
    }
}

struct Tail<W> {
    options: TailOptions,
    output: W,
    printer: Printer,
    repeats: Repeats,
    after: Option<RoundId>,
    backoff: Backoff,
    last_error: String,
}

impl<W: Write> Tail<W> {
    fn new(options: TailOptions, output: W) -> Self {
        let (after, printer) = (options.after.clone(), Printer::new(options.json));
        Self {
            options,
            output,
            printer,
            after,
            repeats: Repeats::default(),
            backoff: Backoff::default(),
            last_error: String::new(),
        }
    }

    async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let end = match self.connect().await {
                Ok(socket) => match self.follow(socket).await? {
                    Some(end) => end,
                    None => return Ok(()),
                },
                Err(end) => end,
            };
            self.after_end(end)?;
            tokio::time::sleep(self.backoff.delay()).await;
        }
    }

    async fn connect(&self) -> Result<RoundSocket, End> {
        let TailOptions { url, game, kind, token, .. } = &self.options;
        let url = url.stream(game.as_deref(), kind.as_deref(), self.after.as_ref());
        RoundSocket::open(&url, token.as_ref()).await
    }

    /// Prints the rounds that arrive. `None` if stdout is closed.
    async fn follow(&mut self, mut socket: RoundSocket) -> anyhow::Result<Option<End>> {
        loop {
            let text = match socket.next().await {
                Ok(text) => text,
                Err(end) => return Ok(Some(end)),
            };
            self.backoff.reset();
            self.last_error.clear();
            if !self.print(&text)? {
                return Ok(None);
            }
        }
    }

    /// Prints one round unless it was printed before. False if stdout is closed.
    fn print(&mut self, text: &str) -> anyhow::Result<bool> {
        let round = line::parse(text)
            .context("the server sent a message that is not a round. Check --url.")?;
        self.after = Some(round.round_id.clone());
        if !self.repeats.is_new(&round) {
            return Ok(true);
        }
        let line = self.printer.line(&round, text);
        match writeln!(self.output, "{line}").and_then(|()| self.output.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error).context("cannot write to stdout"),
            Ok(()) => Ok(true),
        }
    }

    /// Prepares the next connection, or returns the error if reconnecting cannot help.
    fn after_end(&mut self, end: End) -> anyhow::Result<()> {
        match end {
            End::Refused(reason) => anyhow::bail!("{}: {reason}", self.options.url),
            End::Gap => {
                let after = self.after.take().map(|id| format!(" {id}")).unwrap_or_default();
                tracing::warn!(
                    "the server no longer has the rounds after{after}, continuing with the latest"
                );
            }
            End::Lost(reason) if reason != self.last_error => {
                tracing::warn!("{}: {reason}; reconnecting", self.options.url);
                self.last_error = reason;
            }
            End::Lost(_) => {}
        }
        Ok(())
    }
}
