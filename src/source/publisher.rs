//! Puts found rounds on the stream, and counts those that cannot be sent.

use std::time::Instant;

use super::{
    audit::Audit,
    cursor::{AlreadyPublished, Cursor, round_key},
    error::CaptureError,
    poll::{Content, FoundRow},
    rows::OutboxRow,
    running::Running,
    wake_ups::Notifications,
};
use crate::{
    ops::telemetry::metrics::{BySource, FoundBy, Metrics},
    stream::{
        games::Games,
        hub::{Captured, DurablePosition},
        round::{Game, Round},
        sink::{DurableMark, Sink},
        skipped_rounds::SkippedRounds,
        transaction::Finish,
    },
};

/// Puts found rounds into the hub or the log, each once, and keeps the directory of games.
#[derive(Debug)]
pub(super) struct RoundPublisher {
    pub(super) sink: Sink,
    pub(super) games: Games,
    pub(super) metrics: Metrics,
    pub(super) audit: Audit,
    pub(super) skipped: SkippedRounds,
}

/// What became of the rows that were published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// New rounds on the stream.
    pub(super) published: usize,
    /// Rows whose round had been published before.
    pub(super) repeated: usize,
}

impl Outcome {
    pub(super) fn add(&mut self, other: Self) {
        self.published += other.published;
        self.repeated += other.repeated;
    }
}

impl RoundPublisher {
    pub(super) fn new(sink: Sink, games: Games, metrics: Metrics, skipped: SkippedRounds) -> Self {
        Self { sink, games, metrics, audit: Audit::default(), skipped }
    }

    /// Counts notifications, and compares their payloads with the rounds that polls find.
    pub(super) fn receive(&mut self, notifications: &Notifications) {
        self.metrics.notifications_total.inc_by(notifications.count);
        self.audit.receive(&notifications.payloads, &self.metrics);
    }

    /// Publishes the rows' rounds in their order, except those published before.
    pub(super) async fn publish_rows(
        &mut self,
        rows: Vec<FoundRow>,
        already: &AlreadyPublished,
        cursor: &mut Cursor,
        found_by: FoundBy,
    ) -> Result<Outcome, CaptureError> {
        let (mut new, mut repeated) = (Vec::with_capacity(rows.len()), 0);
        for FoundRow { row, content } in rows {
            match content {
                Content::Round(round) if !already.has_key(&round_key(&round)) => {
                    cursor.mark_published(row.key.clone(), round.finished_at);
                    self.audit.find(&round.round_id);
                    new.push(self.captured(*round, &row, cursor.poll()));
                }
                Content::Round(_) => repeated += 1,
                // Deleted since: its outbox row shows that it was published.
                _ if already.has_round(&row.finish().round) => repeated += 1,
                content => {
                    self.skip(row.finish(), &content);
                    cursor.skip(row.key);
                }
            }
        }
        let published = new.len();
        self.publish(new, found_by).await?;
        Ok(Outcome { published, repeated })
    }

    fn captured(&self, round: Round, row: &OutboxRow, poll: u64) -> Captured {
        self.metrics.commit_to_decode_seconds.observe(row.age.as_secs_f64());
        let recorded = Instant::now().checked_sub(row.age);
        let &Finish { xid, attachment, .. } = row.finish();
        Captured {
            round,
            xid,
            attachment,
            before: row.before,
            at: Some(row.key.at),
            poll,
            recorded,
        }
    }

    /// Publishes rounds that were read by `finished_at`, or found by a poll.
    pub(super) async fn publish(
        &mut self,
        rounds: Vec<Captured>,
        found_by: FoundBy,
    ) -> Result<(), CaptureError> {
        let label = BySource { source: found_by };
        self.metrics.rounds_captured_total.get_or_create(&label).inc_by(rounds.len() as u64);
        Ok(self.sink.publish(rounds).await?)
    }

    /// Takes the directory of games as it is by now.
    pub(super) async fn replace_games(&mut self, games: Vec<Game>) -> Result<(), CaptureError> {
        self.sink.replace_games(&games).await?;
        self.games.replace(games);
        Ok(())
    }

    /// Whether the directory lacks the game of one of these rows, or has another slug or type of it.
    pub(super) fn lacks_a_game(&self, rows: &[FoundRow]) -> bool {
        let differs = |round: &Round, game: Game| {
            game.slug != round.game_slug || game.kind != round.game_type
        };
        rows.iter().any(|found| match &found.content {
            Content::Round(round) => {
                self.games.by_id(&round.game_id).is_none_or(|game| differs(round, game))
            }
            _ => false,
        })
    }

    /// Whether a row names a round that cannot be sent, of a table whose name is not known.
    pub(super) fn lacks_a_table(&self, rows: &[FoundRow]) -> bool {
        let skipped = rows.iter().filter(|found| !matches!(found.content, Content::Round(_)));
        let mut tables = skipped.map(|found| found.row.finish().attachment);
        tables.any(|table| !self.skipped.knows_table(table))
    }

    fn skip(&mut self, finish: &Finish, content: &Content) {
        let Some(reason) = content.skipped() else { return };
        self.audit.find(&finish.round);
        self.skipped.skip(reason, finish.attachment, &finish.round);
    }

    /// Says up to where the outbox has been published for good.
    pub(super) fn set_durable_position(&mut self, running: &Running) {
        let cursor = &running.cursor;
        let (durable, position) = (cursor.durable(), cursor.durable_position());
        let (oldest_running, snapshot) = (durable.xmin(), durable.to_string().into());
        let position = DurablePosition { oldest_running, snapshot, position };
        let (space, at) = (running.identity.space(), running.last_contact);
        self.sink.set_durable_position(DurableMark { position, space, at });
    }

    /// Forgets all rounds: they are of a database that was dropped.
    pub(super) async fn forget_database(&mut self) -> Result<(), CaptureError> {
        tracing::warn!(
            "another database has the name of the one that was streamed: its rounds are loaded, and \
             resume points of the old one are gone"
        );
        Ok(self.sink.forget_all().await?)
    }

    /// Says whether other servers may publish the same rounds from now on.
    pub(super) fn share(&mut self, shared: bool) {
        self.metrics.other_nodes.set(i64::from(shared));
        self.sink.share(shared);
    }

    /// Counts a database that came back without rounds that were sent.
    pub(super) fn report_lost(&self, rounds: usize) {
        self.metrics.rounds_lost_by_database_total.inc();
        tracing::error!(
            rounds,
            "the database came back without its last commits (synchronous_commit = off, or a standby \
             that lagged): it lacks rounds that were sent"
        );
    }
}
