//! Appends rounds, games and marks to the log, as its leader.

mod batches;
mod refresh;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use self::batches::Batches;
use super::{
    append::AppendError,
    codec::{self, Claim, EncodedMark, GameMessage, PositionMark, RoundMessage},
    leader_state::LeaderState,
    log::Log,
    outgoing::Outgoing,
    request::Bus,
    space::Space,
    takeover::{LatestPlace, Takeover},
};
use crate::{
    ops::telemetry::metrics::Metrics,
    stream::{
        hub::Captured,
        round::{Game, GameId, Round},
    },
};

/// An idle leader writes a mark at most so often: it spares the next leader a part of the catch-up.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at the end of the log.
const COMPARE_EVERY: Duration = Duration::from_secs(1);

/// What a writer begins with.
#[derive(Debug)]
pub(crate) struct WriterStart {
    pub(crate) metrics: Metrics,
    /// What the beat says.
    pub(crate) state: watch::Sender<LeaderState>,
    /// How often what the log would forget is written again: below the log's age.
    pub(crate) refresh_every: Duration,
    /// The most bytes of recent rounds with which a log begins.
    pub(crate) begin_bytes: usize,
    /// Who claims.
    pub(crate) claim: Claim,
    /// The greatest end that the log is known to have had.
    pub(crate) greatest_end: u64,
}

/// The one writer of the log, as long as the log's end is the one that it knows.
#[derive(Debug)]
pub(crate) struct LogWriter<L: Log = Bus> {
    log: L,
    start: WriterStart,
    /// The sequence of the last message.
    end: u64,
    /// The sequence of the claim.
    term: u64,
    /// The sequence of the last claim in the log, which must still be there at each append.
    fence: u64,
    /// The latest round of each game. The last message of a game must be its latest round.
    latest: HashMap<GameId, LatestPlace>,
    /// The directory as it stands in the log.
    games: BTreeMap<GameId, Game>,
    /// The newest mark, and the snapshot and time of the last one that was written.
    mark: Option<PositionMark>,
    marked: (String, Instant),
    /// Whose transaction ids rounds have.
    space: Space,
    /// Whether everything that was committed is in the log: not before this leader has caught up.
    is_whole: bool,
    /// The leader's number of the poll, and the sequence at which its rounds begin.
    poll: (u64, u64),
    /// The poll that the first one repeats.
    repeated_poll: Option<u64>,
    /// When the log's end was last compared with this one.
    compared: Instant,
    /// When what the log would forget is written again.
    refresh_at: Instant,
}

impl<L: Log> LogWriter<L> {
    /// Claims to lead, behind what was read. Refused if the log has another end by now. A log
    /// without a mark begins again.
    pub(crate) async fn claim(
        log: L,
        start: WriterStart,
        takeover: Takeover,
    ) -> Result<Self, AppendError> {
        let refresh_at = refresh::due(&takeover, start.refresh_every);
        let Takeover { end, mark, latest, games, poll, claim, .. } = takeover;
        let lost = start.greatest_end > end;
        if lost {
            start.metrics.bus.rewritten_total.inc();
            tracing::warn!(
                had = start.greatest_end,
                end,
                "NATS lost messages that it had acknowledged: their rounds are appended again"
            );
        }
        let now = Instant::now();
        let space = mark.as_ref().map(|mark| mark.space.clone()).unwrap_or_default();
        // Until a poll says otherwise, as the former leader knew it.
        let is_alone = mark.as_ref().is_some_and(|mark| !mark.is_shared);
        let mut writer = Self {
            log,
            start,
            end,
            term: end + 1,
            fence: claim.map_or(0, |(seq, _)| seq),
            latest,
            games: games.into_iter().map(|game| (game.id.clone(), game)).collect(),
            marked: (mark.as_ref().map(|mark| mark.snapshot.clone()).unwrap_or_default(), now),
            mark,
            space,
            is_whole: false,
            poll: (0, 0),
            repeated_poll: poll,
            compared: now,
            refresh_at,
        };
        let (subjects, claim) = (writer.log.subjects().clone(), writer.term);
        let mut batch = vec![codec::claim_message(&subjects, claim, &writer.start.claim, lost)];
        if writer.mark.is_none() {
            batch.push(codec::begin_message(&subjects, claim));
        }
        writer.append(batch).await?;
        writer.fence = claim;
        writer.start.metrics.bus.claims_total.inc();
        writer.start.state.send_modify(|state| {
            let (end, space) = (writer.end, writer.space.name());
            *state = LeaderState { claim, end, space, is_alone, ..LeaderState::default() };
        });
        Ok(writer)
    }

    /// The sequence of the last message.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The sequence of the claim.
    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// The most bytes of recent rounds with which a log begins.
    pub(crate) fn begin_bytes(&self) -> usize {
        self.start.begin_bytes
    }

    /// Sets the mark that the next append carries. Its space gets this writer's generation.
    pub(crate) fn set_mark(&mut self, mut mark: PositionMark) {
        mark.space.generation = self.space.generation;
        self.space = mark.space.clone();
        let space = self.space.name();
        self.start
            .state
            .send_if_modified(|state| std::mem::replace(&mut state.space, space) != space);
        self.mark = Some(mark);
    }

    /// Notes that transaction ids may be used again from now on.
    pub(crate) fn start_over(&mut self, unix_seconds: u64) {
        self.space.generation = unix_seconds;
    }

    /// Appends rounds in this order.
    pub(crate) async fn publish(&mut self, rounds: Vec<Captured>) -> Result<(), AppendError> {
        if rounds.is_empty() {
            return Ok(());
        }
        let mut batches = Batches::new(self.end);
        let mut outdated: BTreeMap<GameId, bool> = BTreeMap::new();
        let mut newest: HashMap<GameId, Captured> = HashMap::new();
        for mut captured in rounds {
            captured.poll = self.poll_at(captured.poll);
            let messages = self.encode(&captured, false);
            let place = LatestPlace { age: captured.round.age(), seq: batches.add(messages) };
            let game = captured.round.game_id.clone();
            let is_latest = self.latest.get(&game).is_none_or(|it| it.age <= place.age);
            outdated.insert(game.clone(), !is_latest);
            if is_latest {
                self.latest.insert(game.clone(), place);
                newest.insert(game, captured);
            }
        }
        let outdated = outdated.into_iter().filter(|(_, is_outdated)| *is_outdated);
        let (mut repeats, mut in_log) = (Vec::new(), Vec::new());
        for (game, _) in outdated {
            match newest.remove(&game) {
                Some(captured) => repeats.push(captured),
                None => in_log.push(game),
            }
        }
        repeats.extend(self.read_latest(&in_log).await?);
        for captured in repeats {
            let seq = batches.add(self.encode(&captured, true));
            let game = self.latest.get_mut(&captured.round.game_id);
            game.into_iter().for_each(|place| place.seq = seq);
        }
        self.append_all(batches).await
    }

    /// The sequence at which the rounds of this poll begin.
    fn poll_at(&mut self, number: u64) -> u64 {
        if self.poll.0 != number {
            let begin = self.repeated_poll.take().unwrap_or(self.end + 1);
            self.poll = (number, begin);
        }
        self.poll.1
    }

    /// Appends rounds again, for edges that start.
    async fn repeat(&mut self, rounds: Vec<Captured>) -> Result<(), AppendError> {
        let mut batches = Batches::new(self.end);
        let mut outdated: BTreeMap<GameId, bool> = BTreeMap::new();
        for captured in rounds {
            let seq = batches.add(self.encode(&captured, true));
            let (game, age) = (captured.round.game_id.clone(), captured.round.age());
            let is_latest = self.latest.get(&game).is_none_or(|it| it.age <= age);
            outdated.insert(game.clone(), !is_latest);
            let place = LatestPlace { age, seq };
            if is_latest {
                self.latest.insert(game, place);
            }
        }
        self.append_all(batches).await?;
        let outdated = outdated.into_iter().filter(|(_, is_outdated)| *is_outdated);
        self.repeat_latest(outdated.map(|(game, _)| game).collect()).await
    }

    /// Brings the directory in the log up to this one.
    pub(crate) async fn replace_games(&mut self, games: &[Game]) -> Result<(), AppendError> {
        let gone = self.games.keys().filter(|id| games.iter().all(|game| game.id != **id));
        let mut changes: Vec<_> = gone.cloned().map(GameMessage::Gone).collect();
        let new = games.iter().filter(|game| self.games.get(&game.id) != Some(game));
        changes.extend(new.cloned().map(GameMessage::Row));
        self.append_games(changes).await?;
        self.games = games.iter().map(|game| (game.id.clone(), game.clone())).collect();
        Ok(())
    }

    async fn append_games(&mut self, changes: Vec<GameMessage>) -> Result<(), AppendError> {
        let mut batches = Batches::new(self.end);
        for change in &changes {
            batches.add(vec![codec::game_message(self.log.subjects(), self.term, change)]);
        }
        self.append_all(batches).await
    }

    /// Begins a log: the latest rounds of games that are not among the recent ones.
    pub(crate) async fn begin_with_latest(
        &mut self,
        latest: Vec<Round>,
    ) -> Result<(), AppendError> {
        self.repeat(latest.into_iter().map(Captured::from_table).collect()).await
    }

    /// Goes on with the recent rounds.
    pub(crate) async fn begin(&mut self, recent: Vec<Captured>) -> Result<(), AppendError> {
        self.repeat(recent).await
    }

    /// Begins the log again: another database has the name of the one whose rounds are in it.
    pub(crate) async fn forget_all(&mut self) -> Result<(), AppendError> {
        self.mark = None;
        self.latest.clear();
        self.games.clear();
        self.append(vec![codec::begin_message(self.log.subjects(), self.term)]).await
    }

    /// Whether servers without a bus may stream the same database.
    pub(crate) fn is_shared(&self) -> bool {
        !self.start.state.borrow().is_alone
    }

    /// Says whether servers without a bus stream the same database.
    pub(crate) fn share(&mut self, shared: bool) {
        if let Some(mark) = &mut self.mark {
            mark.is_shared = shared;
        }
        self.start
            .state
            .send_if_modified(|state| std::mem::replace(&mut state.is_alone, !shared) == shared);
    }

    /// Says that the log has everything from now on.
    pub(crate) async fn open(&mut self) -> Result<(), AppendError> {
        self.is_whole = true;
        self.append_mark().await?;
        self.start.state.send_modify(|state| state.is_live = true);
        Ok(())
    }

    /// Writes what is due between rounds, and checks that the log's end is the one written last:
    /// NATS may have lost what it acknowledged.
    pub(crate) async fn keep_up(&mut self) -> Result<(), AppendError> {
        let is_new = self.mark.as_ref().is_some_and(|mark| mark.snapshot != self.marked.0);
        if is_new && self.marked.1.elapsed() > MARK_EVERY {
            self.append_mark().await?;
        }
        if Instant::now() >= self.refresh_at {
            self.refresh().await?;
            self.refresh_at = Instant::now() + self.start.refresh_every;
        }
        if self.compared.elapsed() > COMPARE_EVERY {
            self.compared = Instant::now();
            if self.log.ends().await?.last != self.end {
                return Err(AppendError::OtherEnd);
            }
            self.note_loss().await?;
        }
        Ok(())
    }

    /// Notes in the log that an edge has seen messages which the log lost: the others cannot know.
    async fn note_loss(&mut self) -> Result<(), AppendError> {
        let mut reported = None;
        self.start.state.send_if_modified(|state| {
            reported = state.reported_lost.take();
            false
        });
        if reported.is_some() {
            let claim =
                codec::claim_message(self.log.subjects(), self.term, &self.start.claim, true);
            self.append(vec![claim]).await?;
            self.fence = self.end;
        }
        Ok(())
    }

    async fn append_mark(&mut self) -> Result<(), AppendError> {
        if self.mark.is_none() {
            return Ok(());
        }
        self.append(vec![codec::mark_message(self.log.subjects(), self.term)]).await
    }

    fn encode(&self, captured: &Captured, is_repeat: bool) -> Vec<Outgoing> {
        let (captured, space, term) = (captured.clone(), self.space.name(), self.term);
        let message = RoundMessage { captured, space, term, is_repeat };
        codec::round_messages(self.log.subjects(), &message, self.log.max_payload())
    }

    /// A mark that does not fit on the last message follows it.
    async fn append_all(&mut self, batches: Batches) -> Result<(), AppendError> {
        let (mut batches, mark) = (batches.into_vec(), self.encoded_mark());
        if let (Some(mark), Some(batch)) = (&mark, batches.last_mut())
            && batch.last().is_some_and(|last| !mark.fits_on(last, self.log.max_payload()))
        {
            batch.push(codec::mark_message(self.log.subjects(), self.term));
        }
        for batch in batches {
            self.append_with(mark.as_ref(), batch).await?;
        }
        Ok(())
    }

    async fn append(&mut self, batch: Vec<Outgoing>) -> Result<(), AppendError> {
        self.append_with(self.encoded_mark().as_ref(), batch).await
    }

    fn encoded_mark(&self) -> Option<EncodedMark> {
        self.mark.as_ref().map(|mark| EncodedMark::new(mark, self.is_whole))
    }

    async fn append_with(
        &mut self,
        mark: Option<&EncodedMark>,
        mut batch: Vec<Outgoing>,
    ) -> Result<(), AppendError> {
        let carried = mark.zip(batch.last_mut());
        if carried.is_some_and(|(mark, last)| mark.put_on(last, self.log.max_payload()))
            && let Some(mark) = &self.mark
        {
            self.marked = (mark.snapshot.clone(), Instant::now());
        }
        let (begun, messages) = (Instant::now(), batch.len());
        let metrics = self.start.metrics.bus.clone();
        let appended = self.log.append(self.end, self.fence, batch).await;
        if let Err(AppendError::OtherEnd) = appended {
            metrics.deposed_total.inc();
        }
        self.end = appended?.seq;
        self.start.state.send_modify(|state| state.end = self.end);
        metrics.append_seconds.observe(begun.elapsed().as_secs_f64());
        metrics.appended_total.inc_by(messages as u64);
        metrics.position.set(self.end.cast_signed());
        metrics.end.set(self.end.cast_signed());
        Ok(())
    }
}
