//! Where a capture puts its rounds: into this server's hub, or into the log on the bus.

use std::{sync::Arc, time::Instant};

use super::{
    bus::{AppendError, LogWriter, PositionMark, Space},
    hub::{Captured, DurablePosition, Position, Publisher},
    round::{Game, Round},
    transaction::Xid,
};

/// The one writer of a hub or of a log.
#[derive(Debug)]
pub(crate) enum Sink {
    /// This server's hub.
    Hub(Publisher),
    /// The log, as its leader.
    Log {
        /// The writer.
        writer: Box<LogWriter>,
        /// This process's own hub, without subscribers: maintenance reads the durable position there.
        local: Arc<Publisher>,
    },
}

/// A durable position, with what another process needs to begin there.
#[derive(Clone, Debug)]
pub(crate) struct DurableMark {
    /// The position in the hub or in the log.
    pub(crate) position: DurablePosition,
    /// Whose transaction ids they are.
    pub(crate) space: Space,
    /// The database's clock at the last poll, in microseconds since the epoch.
    pub(crate) at: i64,
}

impl Sink {
    /// Publishes rounds in this order.
    pub(crate) async fn publish(&mut self, rounds: Vec<Captured>) -> Result<(), AppendError> {
        match self {
            Self::Hub(publisher) => publisher.publish(rounds),
            Self::Log { writer, .. } => writer.publish(rounds).await?,
        }
        Ok(())
    }

    /// Forgets what an initial load has put into the hub, if a broken connection ended it. Edges know
    /// the rounds of a log by their names.
    pub(crate) fn begin_load(&self) {
        if let Self::Hub(publisher) = self {
            publisher.begin_load();
        }
    }

    /// Begins with latest rounds of games that are not among the recent ones, some at a time.
    pub(crate) async fn preload_latest(&mut self, latest: Vec<Round>) -> Result<(), AppendError> {
        match self {
            Self::Hub(publisher) => publisher.preload_latest(latest),
            Self::Log { writer, .. } => writer.begin_with_latest(latest).await?,
        }
        Ok(())
    }

    /// Goes on with the recent rounds; see [`Publisher::preload`].
    pub(crate) async fn preload(
        &mut self,
        recent: Vec<Captured>,
        trimmed: Xid,
    ) -> Result<(), AppendError> {
        match self {
            Self::Hub(publisher) => publisher.preload(recent, Vec::new(), trimmed),
            Self::Log { writer, .. } => writer.begin(recent).await?,
        }
        Ok(())
    }

    /// Takes the directory of games as it is by now.
    pub(crate) async fn replace_games(&mut self, games: &[Game]) -> Result<(), AppendError> {
        match self {
            Self::Hub(publisher) => publisher.hub().classify(games),
            Self::Log { writer, .. } => writer.replace_games(games).await?,
        }
        Ok(())
    }

    /// Forgets all rounds: they are of a database that was dropped.
    pub(crate) async fn forget_all(&mut self) -> Result<(), AppendError> {
        match self {
            Self::Hub(publisher) => publisher.forget_all(),
            Self::Log { writer, .. } => writer.forget_all().await?,
        }
        Ok(())
    }

    /// Notes that the database may use transaction ids again.
    pub(crate) fn start_over(&mut self) {
        if let Self::Log { writer, .. } = self {
            let now = chrono::Utc::now().timestamp().cast_unsigned();
            writer.start_over(now);
        }
    }

    /// The position of the last published round, or of the log's last message.
    pub(crate) fn position(&self) -> Position {
        match self {
            Self::Hub(publisher) => publisher.position(),
            Self::Log { writer, .. } => Position(writer.end()),
        }
    }

    /// Sets the position up to which rounds survive a crash of the database.
    pub(crate) fn set_durable_position(&mut self, durable: DurableMark) {
        let DurableMark { position, space, at } = durable;
        match self {
            Self::Hub(publisher) => publisher.set_durable_position(position),
            Self::Log { writer, local } => {
                let (base, snapshot) = (position.position.0, position.snapshot.to_string());
                local.set_durable_position(position);
                let is_shared = writer.is_shared();
                writer.set_mark(PositionMark { base, space, at, snapshot, is_shared });
            }
        }
    }

    /// Sets whether other servers may stream the same database from now on.
    pub(crate) fn share(&mut self, shared: bool) {
        match self {
            Self::Hub(publisher) => publisher.share(shared),
            Self::Log { writer, .. } => writer.share(shared),
        }
    }

    /// Sets how long no other server can answer exactly. Edges take that from the leader's beat.
    pub(crate) fn answer_exactly_until(&self, end: Instant) {
        if let Self::Hub(publisher) = self {
            publisher.answer_exactly_until(end);
        }
    }

    /// Opens the hub, or the hubs of the edges, to subscribers.
    pub(crate) async fn open(&mut self) -> Result<(), AppendError> {
        match self {
            Self::Hub(publisher) => publisher.open(),
            Self::Log { writer, .. } => writer.open().await?,
        }
        Ok(())
    }

    /// What is due between rounds: to be called at every poll.
    pub(crate) async fn keep_up(&mut self) -> Result<(), AppendError> {
        match self {
            Self::Hub(_) => Ok(()),
            Self::Log { writer, .. } => writer.keep_up().await,
        }
    }

    /// Waits while shards are behind; an append waits by itself.
    pub(crate) async fn wait_for_outlets(&self) {
        if let Self::Hub(publisher) = self {
            publisher.wait_for_outlets().await;
        }
    }

    /// The most bytes of recent rounds to begin with.
    pub(crate) fn history_share(&self) -> usize {
        match self {
            Self::Hub(publisher) => publisher.history_share(),
            Self::Log { writer, .. } => writer.begin_bytes(),
        }
    }
}
