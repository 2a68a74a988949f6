//! Reads of the outbox: polls with the rounds' content, pages without, and rounds by id.

use std::collections::{HashMap, HashSet};

use tokio_postgres::types::Type;

use super::{
    error::CaptureError,
    poll::{Bounds, Content, FoundRow, PAGE_ROWS, POLL_ROWS, Poll},
    session::{
        ANSWER_WITHIN, BoundedRows, CATCH_UP_WITHIN, Parameter, PreparedQuery, Session, within,
    },
    snapshot::Snapshot,
};
use crate::{
    postgres::{rows, sql::sql},
    stream::{
        round::UnixMillis,
        transaction::{Attachment, RoundName},
    },
};

/// Rounds whose content is read at once: 1,000 take 3.4 ms.
const ROUNDS_AT_ONCE: usize = 1_000;
/// The most bytes of content in one answer, unless it has a single round.
const CONTENT_BYTES: usize = 4 * 1024 * 1024;

/// How many rounds are read at once: fewer if they are large.
#[derive(Debug)]
pub(super) struct ChunkSize(usize);

impl Default for ChunkSize {
    fn default() -> Self {
        Self(ROUNDS_AT_ONCE)
    }
}

impl ChunkSize {
    /// The next rounds to read.
    pub(super) fn rounds(&self) -> usize {
        self.0
    }

    fn adapt(&mut self, rounds: usize, bytes: usize) {
        if bytes > CONTENT_BYTES {
            self.0 = (rounds / 2).max(1);
        } else if bytes < CONTENT_BYTES / 4 {
            self.0 = (self.0 * 2).min(ROUNDS_AT_ONCE);
        }
    }
}

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
        let answer = self.session.query_bounded(&self.poll, &parameters, CONTENT_BYTES);
        match within(ANSWER_WITHIN, answer).await {
            Ok(BoundedRows::All(rows, _)) => Ok(PollAnswer::of(Poll::read(&rows)?)),
            Ok(BoundedRows::TooMany) => Ok(PollAnswer::ReadInPages),
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

    /// Takes rows from the front, as many as one answer can have, and reads their content. One that
    /// cannot be read does not hold up the others.
    pub(super) async fn take_with_contents(
        &self,
        rows: &mut Vec<FoundRow>,
        size: &mut ChunkSize,
    ) -> Result<Vec<FoundRow>, CaptureError> {
        loop {
            let rest = rows.split_off(rows.len().min(size.rounds()));
            let mut chunk = std::mem::replace(rows, rest);
            if !chunk.iter().any(FoundRow::is_unread)
                || self.read_contents(&mut chunk, size).await?
            {
                return Ok(chunk);
            }
            chunk.append(rows);
            *rows = chunk;
        }
    }

    /// Returns false if the answer has too many bytes.
    async fn read_contents(
        &self,
        rows: &mut [FoundRow],
        size: &mut ChunkSize,
    ) -> Result<bool, CaptureError> {
        let unread = rows.iter().filter(|found| found.is_unread());
        let names: HashSet<RoundName> = unread.map(|found| found.row.finish().name()).collect();
        let names: Vec<RoundName> = names.into_iter().collect();
        let Some(contents) = self.contents(&names, size).await? else { return Ok(false) };
        for found in rows.iter_mut().filter(|found| found.is_unread()) {
            let content = contents.get(&found.row.finish().name()).cloned();
            found.content = content.unwrap_or(Content::Missing);
        }
        Ok(true)
    }

    /// Halving finds one unreadable round among 1,000 in some twenty queries. `None` if the answer has
    /// too many bytes.
    async fn contents(
        &self,
        names: &[RoundName],
        size: &mut ChunkSize,
    ) -> Result<Option<HashMap<RoundName, Content>>, CaptureError> {
        let mut contents = HashMap::with_capacity(names.len());
        let (mut pending, mut total) = (vec![names], 0);
        while let Some(names) = pending.pop() {
            match (self.rounds(names).await, names) {
                (Ok(Some((rounds, bytes))), _) => {
                    total += bytes;
                    contents.extend(rounds);
                }
                (Ok(None), _) => {
                    size.adapt(names.len(), usize::MAX);
                    return Ok(None);
                }
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
        size.adapt(names.len(), total);
        Ok(Some(contents))
    }

    /// The rounds and their bytes; `None` if they have too many.
    async fn rounds(
        &self,
        names: &[RoundName],
    ) -> Result<Option<(Vec<(RoundName, Content)>, usize)>, CaptureError> {
        let attachments: Vec<i32> = names.iter().map(|(attachment, _)| attachment.0).collect();
        let (ids, keys): (Vec<i64>, Vec<&str>) = names.iter().map(|(_, id)| id.columns()).unzip();
        let parameters: [Parameter<'_>; 3] =
            [(&attachments, Type::INT4_ARRAY), (&ids, Type::INT8_ARRAY), (&keys, Type::TEXT_ARRAY)];
        let answer = self.session.query_bounded(&self.rounds, &parameters, CONTENT_BYTES);
        let BoundedRows::All(found, bytes) = within(CATCH_UP_WITHIN, answer).await? else {
            return Ok(None);
        };
        let now = UnixMillis::now();
        let mut rounds = Vec::with_capacity(found.len());
        for row in &found {
            // An id that cannot be sent is none of those that were asked for.
            let Ok(id) = rows::round_id(row)? else { continue };
            rounds.push(((rows::attachment(row)?, id), Content::of(rows::round(row, now)?)));
        }
        Ok(Some((rounds, bytes)))
    }
}
