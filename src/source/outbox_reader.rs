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
    postgres::rows::{DecodedRound, round},
    stream::round::{RoundId, UnixMillis},
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
    rounds: PreparedQuery,
}

impl OutboxReader {
    pub(super) async fn new(session: Session) -> Result<Self, CaptureError> {
        let poll = session.prepare(include_str!("../../sql/poll.sql")).await?;
        let rounds = session.prepare(include_str!("../../sql/rounds_by_id.sql")).await?;
        Ok(Self { session, poll, rounds })
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

    /// A page of the rows committed since `saved`, without content.
    pub(super) async fn page(
        &self,
        saved: &Snapshot,
        bounds: &Bounds,
    ) -> Result<Poll, CaptureError> {
        let saved = saved.to_string();
        let until = bounds.until.as_ref().map(Snapshot::to_string);
        let xid = bounds.after.xid.0.cast_signed();
        let (round, _) = bounds.after.round.columns();
        let parameters: [Parameter<'_>; 5] = [
            (&saved, Type::TEXT),
            (&until, Type::TEXT),
            (&xid, Type::INT8),
            (&round, Type::INT8),
            (&PAGE_ROWS, Type::INT8),
        ];
        let query = self.session.query(include_str!("../../sql/page.sql"), &parameters);
        Poll::read(&within(CATCH_UP_WITHIN, query).await?)
    }

    /// Reads the content of these rows. One that cannot be read does not hold up the others.
    pub(super) async fn read_contents(&self, rows: &mut [FoundRow]) -> Result<(), CaptureError> {
        let ids: HashSet<RoundId> =
            rows.iter().map(|found| found.row.finish().round.clone()).collect();
        let ids: Vec<RoundId> = ids.into_iter().collect();
        let contents = self.contents(&ids).await?;
        for found in rows {
            let content = contents.get(&found.row.finish().round).cloned();
            found.content = content.unwrap_or(Content::Missing);
        }
        Ok(())
    }

    /// Halving finds one unreadable round among 1,000 in some twenty queries.
    async fn contents(&self, ids: &[RoundId]) -> Result<HashMap<RoundId, Content>, CaptureError> {
        let mut contents = HashMap::with_capacity(ids.len());
        let mut pending = vec![ids];
        while let Some(ids) = pending.pop() {
            match (self.rounds(ids).await, ids) {
                (Ok(rounds), _) => contents.extend(rounds.into_iter().map(Content::of)),
                (Err(error), [id]) if error.is_of_data() => {
                    tracing::debug!(%error, round.id = %id, "a finished round cannot be read");
                    contents.insert(id.clone(), Content::Unreadable);
                }
                (Err(error), ids) if error.is_of_data() => {
                    let (first, second) = ids.split_at(ids.len() / 2);
                    pending.extend([second, first]);
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(contents)
    }

    async fn rounds(&self, ids: &[RoundId]) -> Result<Vec<DecodedRound>, CaptureError> {
        let ids: Vec<i64> = ids.iter().filter_map(RoundId::as_number).collect();
        let parameters: [Parameter<'_>; 1] = [(&ids, Type::INT8_ARRAY)];
        let answer = self.session.query_prepared(&self.rounds, &parameters);
        let rows = within(CATCH_UP_WITHIN, answer).await?;
        let now = UnixMillis::now();
        rows.iter().map(|row| Ok(round(row, now)?)).collect()
    }
}
