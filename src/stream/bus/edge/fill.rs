//! The fill of an edge at its start: the directory, the latest round of each game, recent rounds.

use std::collections::BTreeMap;

use super::{Edge, FILL_MAX};
use crate::stream::{
    bus::{
        BusError, LogEntry, ReadFrom,
        codec::{self, GameMessage, LogMessage},
    },
    hub::Captured,
    round::{Game, GameId},
    transaction::Xid,
};

/// A game's row of the directory.
pub(super) type Rows = BTreeMap<GameId, Game>;

impl Edge {
    /// Reads what the log has by now. Streams open once a leader has marked it as complete.
    pub(super) async fn fill(&mut self) -> Result<(), BusError> {
        let bus = &self.settings.bus;
        let ends = bus.ends().await?;
        self.games = directory(bus).await?;
        self.settings.games.replace(self.games.values().cloned().collect());
        let since = chrono::Utc::now().timestamp() - self.settings.fill.as_secs().cast_signed();
        let first = bus.read(ReadFrom::Time(since)).await?.first().map(|entry| entry.seq);
        let begin = first.unwrap_or(ends.last + 1).max(ends.last.saturating_sub(FILL_MAX));
        let latest = latest(bus, self.games.keys(), begin).await?;
        self.settings.publisher.preload(Vec::new(), latest, Xid(0));
        self.log.last = begin.saturating_sub(1);
        self.settings.metrics.bus_fills_total.inc();
        Ok(())
    }
}

/// The directory as it stands in the log.
async fn directory(bus: &super::Bus) -> Result<Rows, BusError> {
    let subjects = bus.subjects_of(&bus.subjects().games()).await?;
    let mut games = Rows::new();
    for entry in bus.last_of(&subjects).await? {
        match codec::decode(bus.subjects(), &entry) {
            Ok(LogMessage::Game(GameMessage::Row(game))) => {
                games.insert(game.id.clone(), game);
            }
            Ok(_) => {}
            Err(error) => return Err(BusError::Answer(error.to_string())),
        }
    }
    Ok(games)
}

/// The latest round of each game, if it stands before this sequence.
async fn latest(
    bus: &super::Bus,
    games: impl Iterator<Item = &GameId>,
    begin: u64,
) -> Result<Vec<crate::stream::round::Round>, BusError> {
    let subjects: Vec<_> = games.map(|id| bus.subjects().round(&id.to_string())).collect();
    let mut latest = Vec::with_capacity(subjects.len());
    for entry in bus.last_of(&subjects).await? {
        if entry.seq < begin
            && let Some(captured) = whole(bus, &entry).await?
        {
            latest.push(captured.round);
        }
    }
    Ok(latest)
}

/// The round of a message; of the last part of one, with the parts before it.
async fn whole(bus: &super::Bus, entry: &LogEntry) -> Result<Option<Captured>, BusError> {
    let decoded = match codec::decode(bus.subjects(), entry) {
        Ok(LogMessage::Part { of, .. }) => {
            let first = entry.seq.saturating_sub(u64::from(of) - 1);
            let parts = bus.read(ReadFrom::Sequence(first)).await?;
            let parts = parts.iter().filter(|part| part.seq <= entry.seq);
            let body: Vec<u8> = parts.flat_map(|part| part.payload.iter().copied()).collect();
            codec::decode_assembled(entry, &body)
        }
        other => other,
    };
    match decoded {
        Ok(LogMessage::Round(round)) => Ok(Some(round.captured)),
        _ => Ok(None),
    }
}
