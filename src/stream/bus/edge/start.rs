//! The start of an edge: the directory, the latest round of each game, recent rounds.

use std::collections::{HashMap, VecDeque};

use super::{Edge, Place, Progress};
use crate::stream::{
    bus::{
        BusError,
        codec::is_repeat,
        log::Log,
        read::ReadFrom,
        takeover::{self, last_mark},
        whole::round_ending_with,
    },
    frame::encoded_bytes,
    hub::{Age, Captured},
    round::{GameId, Round},
    snapshot::Snapshot,
    transaction::Xid,
};

/// The most messages of a fill.
const FILL_MAX: u64 = 1_000_000;

/// Rounds with which the hub is filled before it opens. Latest rounds of games are not among them: they
/// go into the hub at once, which drops the bytes of the largest if they have too many.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// The newest rounds of the outbox that a leader repeated when the log began, in the order of their
    /// transactions.
    recent: VecDeque<Captured>,
    /// The bytes that these take in the hub.
    recent_bytes: usize,
    /// Up to this transaction, some of them were dropped.
    dropped: Xid,
    /// The greatest age of the repeated rounds of each game.
    ages: HashMap<GameId, Age>,
    /// Rounds that follow, in the order of the log.
    live: Vec<Captured>,
}

impl Collected {
    /// Adds a round, and keeps at most so many bytes of recent ones. Returns latest rounds for the hub.
    pub(super) fn add(&mut self, captured: Captured, is_repeat: bool, most: usize) -> Vec<Round> {
        match (is_repeat, captured.at) {
            // A repeat is of another place, or from before the log: nobody knows its order.
            (true, Some(_)) => return self.add_recent(captured, most),
            (true, None) if self.is_latest(&captured.round) => return vec![captured.round],
            (true, None) => {}
            (false, _) => self.live.push(captured),
        }
        Vec::new()
    }

    fn add_recent(&mut self, captured: Captured, most: usize) -> Vec<Round> {
        self.is_latest(&captured.round);
        self.recent_bytes += encoded_bytes(captured.round.extras.len());
        self.recent.push_back(captured);
        let mut latest = Vec::new();
        while self.recent_bytes > most
            && let Some(oldest) = self.recent.pop_front()
        {
            self.recent_bytes -= encoded_bytes(oldest.round.extras.len());
            self.dropped = self.dropped.max(oldest.xid);
            if self.ages.get(&oldest.round.game_id) == Some(&oldest.round.age()) {
                latest.push(oldest.round);
            }
        }
        latest
    }

    /// How many rounds have a place in the order of the log.
    pub(super) fn live(&self) -> usize {
        self.live.len()
    }

    /// Whether no later round of its game was seen.
    fn is_latest(&mut self, round: &Round) -> bool {
        let age = round.age();
        let is_latest = self.ages.get(&round.game_id).is_none_or(|known| *known < age);
        if is_latest {
            self.ages.insert(round.game_id.clone(), age);
        }
        is_latest
    }
}

impl<L: Log> Edge<L> {
    /// Reads what the log has by now. Streams open once a leader has marked it as complete.
    pub(super) async fn fill(&mut self) -> Result<(), BusError> {
        let log = self.settings.log.clone();
        // What a fill that broke off has left.
        self.settings.publisher.begin_load();
        let ends = log.ends().await?;
        let floor = takeover::floor(&log, ends.last).await?;
        self.games.replace(takeover::directory(&log, floor, ends.last).await?);
        let since = chrono::Utc::now().timestamp() - self.settings.fill.as_secs().cast_signed();
        let first = log.read(ReadFrom::Time(since)).await?.first().map(|entry| entry.seq);
        let begin = first.unwrap_or(ends.last).min(ends.last);
        let begin = begin.max(ends.last.saturating_sub(FILL_MAX)).max(floor).max(ends.first);
        let begin = self.back_to_mark(begin, ends, floor).await?;
        let (collected, newest) = self.preload_latest(begin, floor, ends.last).await?;
        self.progress = Progress::Starting(collected);
        (self.place, self.term) = (Place::after(begin.saturating_sub(1)), 0);
        // A latest round may be a repetition from beyond the end: it must not come again once the hub is open.
        (self.open_at, self.needs_fill) = (ends.last.max(newest), false);
        self.settings.metrics.bus.fills_total.inc();
        Ok(())
    }

    /// Where the fill begins: not behind the last mark, without which the hub does not open.
    async fn back_to_mark(
        &self,
        begin: u64,
        ends: crate::stream::bus::read::Ends,
        floor: u64,
    ) -> Result<u64, BusError> {
        let (mark, _) = last_mark(&self.settings.log, ends, floor).await?;
        // Rounds behind the mark's base are continued by what the outbox has up to it.
        Ok(mark.map_or(begin, |mark| begin.min(mark.base.max(floor).max(ends.first))))
    }

    /// Puts the latest round of each game into the hub, if it was first written before this sequence, page
    /// by page: all of them may be larger than the memory. A repetition behind it counts too: the leader
    /// writes again what the log would forget, and an edge that reads on leaves it out. Returns the
    /// greatest sequence too.
    async fn preload_latest(
        &self,
        begin: u64,
        floor: u64,
        end: u64,
    ) -> Result<(Collected, u64), BusError> {
        let (log, mut collected, mut newest) = (&self.settings.log, Collected::default(), 0);
        let games = self.games.all();
        let mut rest: Vec<_> = games.iter().map(|game| log.subjects().round(&game.id)).collect();
        while !rest.is_empty() {
            let (entries, left) = log.last_page(rest, end).await?;
            for entry in entries {
                if entry.seq < floor || (entry.seq >= begin && !is_repeat(&entry)) {
                    continue;
                }
                newest = newest.max(entry.seq);
                let Some(message) = round_ending_with(log, &entry).await? else { continue };
                let round = message.captured.round;
                if collected.is_latest(&round) {
                    self.settings.publisher.preload_latest(vec![round]);
                }
            }
            rest = left;
        }
        Ok((collected, newest))
    }

    /// Puts into the hub what was collected. Every later round is published at once.
    /// `seen`: of the first mark. Rounds of transactions that it sees may be missing, so a resume
    /// that needs them asks the leader.
    pub(super) fn fill_hub(&mut self, seen: &Snapshot) {
        let Progress::Starting(collected) = &mut self.progress else { return };
        let Collected { recent, dropped, live, .. } = std::mem::take(collected);
        let publisher = &self.settings.publisher;
        publisher.preload(recent.into(), Vec::new(), seen.xmax().max(dropped));
        self.place.shift(publisher.position());
        publisher.publish(live);
        self.progress = Progress::Filling;
    }

    /// The log begins again: an edge that is open has other rounds, and starts over.
    pub(super) fn begin(&mut self) {
        if matches!(self.progress, Progress::Open | Progress::Filling) {
            self.settings.metrics.bus.holes_total.inc();
            tracing::warn!("the log begins again: all streams end, and the memory is filled again");
            self.reset();
            self.games.replace(Vec::new());
            self.open_at = self.place.last;
        }
    }

    /// Starts over, since the log lacks messages that this edge has not read (E3).
    pub(super) async fn start_over(&mut self, why: &str) -> Result<(), BusError> {
        self.settings.metrics.bus.holes_total.inc();
        tracing::error!(%why, "the log has a hole: all streams end, and the memory is filled again");
        self.reset();
        self.needs_fill = true;
        self.fill().await
    }

    fn reset(&mut self) {
        self.rounds.clear();
        let publisher = &self.settings.publisher;
        publisher.close();
        publisher.end_streams();
        publisher.forget_all();
        self.known = Default::default();
        self.assembly.reset();
        self.moves += 1;
        (self.is_rewriting, self.whole_at) = (false, None);
        self.waiting.clear();
        self.missing_since = None;
        self.progress = Progress::Starting(Collected::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{
        round::{FinishedAt, RoundId, UnixMillis},
        transaction::Attachment,
    };

    /// A round of the outbox of which a frame has some 200 KB.
    fn repeated(number: i64, game: i64) -> Captured {
        let round = Round {
            round_id: RoundId::number(number),
            game_id: GameId::number(game),
            game_slug: "crash".into(),
            game_type: "multiplier".into(),
            finished_at: FinishedAt::from_micros(number).expect("in range"),
            extras: "x".repeat(100_000).into(),
            timestamp: UnixMillis(0),
        };
        let (xid, attachment, at) = (Xid(number.cast_unsigned()), Attachment(1), Some(number));
        Captured { round, xid, attachment, before: xid, poll: 0, at, recorded: None }
    }

    #[test]
    fn repeated_rounds_beyond_their_bytes_leave_only_the_latest_of_their_game() {
        const MOST: usize = 1 << 20;
        let (mut collected, mut latest) = (Collected::default(), Vec::new());
        // The first game has one round, the other all that follow.
        for number in 1..=20 {
            let captured = repeated(number, if number == 1 { 1 } else { 2 });
            latest.extend(collected.add(captured, true, MOST));
            assert!(collected.recent_bytes <= MOST, "{} bytes", collected.recent_bytes);
        }
        let ids = |rounds: &[Round]| -> Vec<_> {
            rounds.iter().map(|round| round.round_id.clone()).collect()
        };
        assert_eq!(ids(&latest), [RoundId::number(1)]);
        let kept: Vec<_> = collected.recent.iter().map(|it| it.xid.0).collect();
        assert_eq!((kept, collected.dropped), ((16..=20).collect(), Xid(15)));
    }
}
