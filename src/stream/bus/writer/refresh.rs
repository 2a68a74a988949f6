//! What the log would forget is written again: the latest round of each game, and the directory.

use std::time::{Duration, Instant};

use super::{Batches, LogWriter};
use crate::stream::{
    bus::{
        AppendError, codec::GameMessage, log::Log, takeover::Takeover, whole::round_ending_with,
    },
    hub::Captured,
    round::GameId,
};

/// Latest rounds that are read and written again at once: each may have a megabyte.
const AT_ONCE: usize = 50;

/// When it is due: by the age of the oldest message, since leaders may change more often than that.
pub(super) fn due(takeover: &Takeover, every: Duration) -> Instant {
    let oldest = takeover.oldest.and_then(|seconds| u64::try_from(seconds).ok());
    let now = chrono::Utc::now().timestamp().cast_unsigned();
    let age =
        oldest.map_or(Duration::ZERO, |seconds| Duration::from_secs(now.saturating_sub(seconds)));
    Instant::now() + every.saturating_sub(age)
}

impl<L: Log> LogWriter<L> {
    /// Repeats the latest round of every game and the directory, before the log forgets them.
    pub(super) async fn refresh(&mut self) -> Result<(), AppendError> {
        self.repeat_latest(self.latest.keys().cloned().collect()).await?;
        let rows = self.games.values().cloned().map(GameMessage::Row).collect();
        self.append_games(rows).await?;
        self.append_mark().await
    }

    /// Repeats the latest rounds of these games, each of which is in the log.
    pub(super) async fn repeat_latest(&mut self, games: Vec<GameId>) -> Result<(), AppendError> {
        for part in games.chunks(AT_ONCE) {
            let mut batches = Batches::new(self.end);
            for captured in self.read_latest(part).await? {
                let seq = batches.add(self.encode(&captured, true));
                let place = self.latest.get_mut(&captured.round.game_id);
                place.into_iter().for_each(|place| place.seq = seq);
            }
            self.append_all(batches).await?;
        }
        Ok(())
    }

    /// The latest rounds of these games as they stand in the log, without those that it has forgotten.
    pub(super) async fn read_latest(&self, games: &[GameId]) -> Result<Vec<Captured>, AppendError> {
        let subjects: Vec<_> = games.iter().map(|game| self.log.subjects().round(game)).collect();
        let mut found = Vec::with_capacity(games.len());
        for entry in self.log.last_of(&subjects, self.end).await? {
            let message = round_ending_with(&self.log, &entry).await?;
            found.extend(message.map(|message| message.captured));
        }
        Ok(found)
    }
}
