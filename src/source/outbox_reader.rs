//! Reads of the outbox: polls with the rounds' content, pages without, and rounds by id.

use std::{collections::HashSet, time::Instant};

use tokio_postgres::types::Type;

use super::{
    content_reader::{CONTENT_BYTES, ChunkSize, ContentReader},
    error::CaptureError,
    poll::{Bounds, Content, FoundRow, PAGE_ROWS, POLL_ROWS, Poll},
    session::{
        ANSWER_WITHIN, BoundedRows, CATCH_UP_WITHIN, Parameter, PreparedQuery, Session, within,
    },
};
use crate::{
    postgres::sql::sql,
    stream::{
        snapshot::Snapshot,
        transaction::{Attachment, RoundName},
    },
};

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
        let (saved, asked) = (saved.to_string(), Instant::now());
        let parameters: [Parameter<'_>; 2] = [(&saved, Type::TEXT), (&POLL_ROWS, Type::INT8)];
        let answer = self.session.query_bounded(&self.poll, &parameters, CONTENT_BYTES);
        match within(ANSWER_WITHIN, answer).await {
            Ok(BoundedRows::All(rows, _)) => Ok(PollAnswer::of(Poll::read(&rows, asked)?)),
            Ok(BoundedRows::TooMany) => Ok(PollAnswer::ReadInPages),
            Err(error) if error.is_of_data() => Ok(PollAnswer::ReadInPages),
            Err(error) if error.is_lock_timeout() => Ok(PollAnswer::Locked),
            Err(error) => Err(error),
        }
    }

    /// The same on a quiet database: asks first whether there is anything, with a shorter statement.
    pub(super) async fn poll_if_any(&self, saved: &Snapshot) -> Result<PollAnswer, CaptureError> {
        let (text, asked) = (saved.to_string(), Instant::now());
        let parameters: [Parameter<'_>; 1] = [(&text, Type::TEXT)];
        let answer = self.session.query_prepared(&self.idle, &parameters);
        match Poll::read_idle(&within(ANSWER_WITHIN, answer).await?, asked)? {
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
        let (saved, asked) = (saved.to_string(), Instant::now());
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
        Poll::read(&within(CATCH_UP_WITHIN, query).await?, asked)
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
        let Some(contents) = self.contents().read(&names, size).await? else { return Ok(false) };
        for found in rows.iter_mut().filter(|found| found.is_unread()) {
            let content = contents.get(&found.row.finish().name()).cloned();
            found.content = content.unwrap_or(Content::Missing);
        }
        Ok(true)
    }

    /// Tells the rounds that were deleted from those that are unfinished again.
    pub(super) async fn read_missing(&self, rows: &mut [FoundRow]) -> Result<(), CaptureError> {
        let missing = rows.iter().filter(|found| found.is_missing());
        let names: Vec<RoundName> = missing.map(|found| found.row.finish().name()).collect();
        let mut contents = self.contents().read_missing(&names).await?;
        for found in rows.iter_mut().filter(|found| found.is_missing()) {
            if let Some(content) = contents.remove(&found.row.finish().name()) {
                found.content = content;
            }
        }
        Ok(())
    }

    fn contents(&self) -> ContentReader<'_> {
        let existing = sql!("existing_rows").into();
        ContentReader { session: &self.session, query: &self.rounds, existing }
    }
}
