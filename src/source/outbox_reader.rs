//! Reads of the outbox: polls with the rounds' content, pages without, and rounds by id.

use std::collections::{HashMap, HashSet};

use tokio_postgres::types::Type;

use super::{
    error::CaptureError,
    poll::{Bounds, Content, FoundRow, PAGE_ROWS, POLL_ROWS, Poll},
    session::{ANSWER_WITHIN, CATCH_UP_WITHIN, Parameter, PreparedQuery, Session, within},
    snapshot::Snapshot,
};
use crate::{
    postgres::{rows, sql::sql},
    stream::{
        round::{RoundId, UnixMillis},
        transaction::{Attachment, Finish},
    },
};

/// Rounds whose content is read at once: 1,000 take 3.4 ms.
pub(super) const ROUNDS_AT_ONCE: usize = 1_000;

/// What one statement says.
#[derive(Debug)]
pub(super) enum PollAnswer {
    /// All rows since the last poll.
    Complete(Poll),
    /// There are more rows than one statement returns, or the content of one cannot be read.
    ReadInPages,
    /// A migration of the game holds a lock on its table: poll again.
    Locked,
}

impl PollAnswer {
    fn of(poll: Poll) -> Self {
        if poll.has_rows(POLL_ROWS) { Self::ReadInPages } else { Self::Complete(poll) }
    }
}

/// Reads rows of the outbox, and the rounds that they name.
#[derive(Debug)]
pub(super) struct OutboxReader {
    session: Session,
    poll: PreparedQuery,
    idle: PreparedQuery,
    rounds: PreparedQuery,
}

impl OutboxReader {
    pub(super) async fn new(session: Session) -> Result<Self, CaptureError> {
        let poll = session.prepare(sql!("poll")).await?;
        let idle = session.prepare(sql!("idle")).await?;
        let rounds = session.prepare(sql!("rounds_by_id")).await?;
        Ok(Self { session, poll, idle, rounds })
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// The rounds committed since `saved`, with their content.
    pub(super) async fn poll(&self, saved: &Snapshot) -> Result<PollAnswer, CaptureError> {
        let saved = saved.to_string();
        let parameters: [Parameter<'_>; 2] = [(&saved, Type::TEXT), (&POLL_ROWS, Type::INT8)];
        let answer = self.session.query_prepared(&self.poll, &parameters);
        match within(ANSWER_WITHIN, answer).await {
            Ok(rows) => Ok(PollAnswer::of(Poll::read(&rows)?)),
            Err(error) if error.is_of_data() => Ok(PollAnswer::ReadInPages),
            Err(error) if error.is_lock_timeout() => Ok(PollAnswer::Locked),
            Err(error) => Err(error),
        }
    }

    /// The same on a quiet database: asks first whether there is anything, with a shorter statement.
    pub(super) async fn poll_if_any(&self, saved: &Snapshot) -> Result<PollAnswer, CaptureError> {
        let text = saved.to_string();
        let parameters: [Parameter<'_>; 1] = [(&text, Type::TEXT)];
        let answer = self.session.query_prepared(&self.idle, &parameters);
        match Poll::read_idle(&within(ANSWER_WITHIN, answer).await?)? {
            Some(poll) => Ok(PollAnswer::Complete(poll)),
            None => self.poll(saved).await,
        }
    }

    /// A page of the rows committed since `saved`, without content.
    pub(super) async fn page(
        &self,
        saved: &Snapshot,
        bounds: &Bounds,
    ) -> Result<Poll, CaptureError> {
        let saved = saved.to_string();
        let until = bounds.until.as_ref().map(Snapshot::to_string);
        let xid = bounds.after.xid.0.cast_signed();
        let Attachment(attachment) = bounds.after.attachment;
        let (round, key) = bounds.after.round.columns();
        let parameters: [Parameter<'_>; 7] = [
            (&saved, Type::TEXT),
            (&until, Type::TEXT),
            (&xid, Type::INT8),
            (&attachment, Type::INT4),
            (&round, Type::INT8),
            (&key, Type::TEXT),
            (&PAGE_ROWS, Type::INT8),
        ];
        let query = self.session.query(sql!("page"), &parameters);
        Poll::read(&within(CATCH_UP_WITHIN, query).await?)
    }

    /// Reads the content of these rows. One that cannot be read does not hold up the others.
    pub(super) async fn read_contents(&self, rows: &mut [FoundRow]) -> Result<(), CaptureError> {
        let unread = rows.iter().filter(|found| found.is_unread());
        let names: HashSet<RoundName> = unread.map(|found| name(found.row.finish())).collect();
        let names: Vec<RoundName> = names.into_iter().collect();
        let contents = self.contents(&names).await?;
        for found in rows.iter_mut().filter(|found| found.is_unread()) {
            let content = contents.get(&name(found.row.finish())).cloned();
            found.content = content.unwrap_or(Content::Missing);
        }
        Ok(())
    }

    /// Halving finds one unreadable round among 1,000 in some twenty queries.
    async fn contents(
        &self,
        names: &[RoundName],
    ) -> Result<HashMap<RoundName, Content>, CaptureError> {
        let mut contents = HashMap::with_capacity(names.len());
        let mut pending = vec![names];
        while let Some(names) = pending.pop() {
            match (self.rounds(names).await, names) {
                (Ok(rounds), _) => contents.extend(rounds),
                (Err(error), [name]) if error.is_of_data() => {
                    tracing::debug!(%error, round.id = %name.1, "a finished round cannot be read");
                    contents.insert(name.clone(), Content::Unreadable);
                }
                (Err(error), names) if error.is_of_data() => {
                    let (first, second) = names.split_at(names.len() / 2);
                    pending.extend([second, first]);
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(contents)
    }

    async fn rounds(&self, names: &[RoundName]) -> Result<Vec<(RoundName, Content)>, CaptureError> {
        let attachments: Vec<i32> = names.iter().map(|(attachment, _)| attachment.0).collect();
        let (ids, keys): (Vec<i64>, Vec<&str>) = names.iter().map(|(_, id)| id.columns()).unzip();
        let parameters: [Parameter<'_>; 3] =
            [(&attachments, Type::INT4_ARRAY), (&ids, Type::INT8_ARRAY), (&keys, Type::TEXT_ARRAY)];
        let answer = self.session.query_prepared(&self.rounds, &parameters);
        let found = within(CATCH_UP_WITHIN, answer).await?;
        let now = UnixMillis::now();
        let mut rounds = Vec::with_capacity(found.len());
        for row in &found {
            // An id that cannot be sent is none of those that were asked for.
            let Ok(id) = rows::round_id(row)? else { continue };
            rounds.push(((rows::attachment(row)?, id), Content::of(rows::round(row, now)?)));
        }
        Ok(rounds)
    }
}

/// Names a round of an attached table.
type RoundName = (Attachment, RoundId);

fn name(finish: &Finish) -> RoundName {
    (finish.attachment, finish.round.clone())
}
