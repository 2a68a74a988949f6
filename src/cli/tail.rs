//! `datastream tail`: rounds of a running server in the terminal, over WebSocket.
//!
//! Reconnects by itself and resumes after the last round it printed, so that none is missed over
//! an outage; what a restarted server repeats is printed once.

mod line;
mod socket;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use anyhow::Context;
use clap::Args;

use self::{
    line::{Printer, Repeats},
    socket::{Address, End, RoundSocket},
};
use crate::ops::{backoff::Backoff, shutdown::Shutdown};

/// Its own words are for what went wrong.
pub const LOG_FILTER: &str = "warn";

/// What `tail` can be told.
#[derive(Args, Clone, Debug)]
pub struct TailOptions {
    /// Rounds of this game (its slug); of every game where neither this nor --type is given.
    pub game: Option<String>,

    /// Rounds of every game of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,

    /// The server.
    #[arg(long, env = "DATASTREAM_URL", default_value = "http://localhost:3000")]
    pub url: Address,

    /// Begin after this round (its round_id) instead of with the latest one.
    #[arg(long, value_name = "ROUND_ID", value_parser = clap::value_parser!(i64).range(0..))]
    pub after: Option<i64>,

    /// Print rounds as the server sends them: one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Prints rounds until told to stop, or until nobody reads them any more.
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
    after: Option<i64>,
    backoff: Backoff,
    last_error: String,
}

impl<W: Write> Tail<W> {
    fn new(options: TailOptions, output: W) -> Self {
        let (after, printer) = (options.after, Printer::new(options.json));
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
        let TailOptions { url, game, kind, .. } = &self.options;
        RoundSocket::open(&url.stream(game.as_deref(), kind.as_deref(), self.after)).await
    }

    /// Prints what comes; `None` when nobody reads it any more.
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

    /// Prints one round unless it was printed before; false when nobody reads it.
    fn print(&mut self, text: &str) -> anyhow::Result<bool> {
        let round = line::parse(text).context("the server sent something that is no round")?;
        self.after = Some(round.round_id);
        if !self.repeats.is_new(&round) {
            return Ok(true);
        }
        let line = self.printer.line(&round, text);
        match writeln!(self.output, "{line}").and_then(|()| self.output.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error).context("cannot print"),
            Ok(()) => Ok(true),
        }
    }

    /// Whether there is any use in connecting again, and from where.
    fn after_end(&mut self, end: End) -> anyhow::Result<()> {
        match end {
            End::Refused(reason) => anyhow::bail!("{}: {reason}", self.options.url),
            End::Gap => {
                let after = self.after.take().unwrap_or_default();
                tracing::warn!(
                    "rounds right after {after} are no longer kept: beginning with the latest"
                );
            }
            End::Lost(reason) if reason != self.last_error => {
                tracing::warn!("{}: {reason}; trying again", self.options.url);
                self.last_error = reason;
            }
            End::Lost(_) => {}
        }
        Ok(())
    }
}
