//! The content of rounds that are named, however many of them cannot be read.

use std::collections::HashMap;

use tokio_postgres::types::Type;

use super::{
    error::CaptureError,
    poll::Content,
    session::{BoundedRows, CATCH_UP_WITHIN, Parameter, PreparedQuery, Session, within},
};
use crate::{
    ops::halves::Halves,
    postgres::rows,
    stream::{round::UnixMillis, transaction::RoundName},
};

/// Rounds whose content is read at once: 1,000 take 3.4 ms.
const ROUNDS_AT_ONCE: usize = 1_000;
/// The most bytes of content in one answer, unless it has a single round.
pub(super) const CONTENT_BYTES: usize = 4 * 1024 * 1024;

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

/// Reads rounds by their names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contents<'a> {
    pub(super) session: &'a Session,
    /// `sql/rounds_by_id.sql`.
    pub(super) query: &'a PreparedQuery,
}

impl Contents<'_> {
    /// Reads them in as many answers as they need.
    pub(super) async fn read_all(
        self,
        mut names: &[RoundName],
    ) -> Result<HashMap<RoundName, Content>, CaptureError> {
        let (mut contents, mut size) = (HashMap::with_capacity(names.len()), ChunkSize::default());
        while !names.is_empty() {
            let (chunk, rest) = names.split_at(names.len().min(size.rounds()));
            if let Some(read) = self.read(chunk, &mut size).await? {
                contents.extend(read);
                names = rest;
            }
        }
        Ok(contents)
    }

    /// Halving finds one unreadable round among 1,000 in some twenty queries. `None` if the answer has
    /// too many bytes.
    pub(super) async fn read(
        self,
        names: &[RoundName],
        size: &mut ChunkSize,
    ) -> Result<Option<HashMap<RoundName, Content>>, CaptureError> {
        let mut contents = HashMap::with_capacity(names.len());
        let (mut halves, mut total) = (Halves::of(names), 0);
        while let Some(part) = halves.next_part() {
            match self.rounds(part).await {
                Ok(Some((rounds, bytes))) => {
                    total += bytes;
                    contents.extend(rounds);
                }
                Ok(None) => {
                    size.adapt(part.len(), usize::MAX);
                    return Ok(None);
                }
                Err(error) if error.is_of_data() => {
                    if let Some(name) = halves.split(part) {
                        tracing::debug!(%error, round.id = %name.1, "a finished round cannot be read");
                        contents.insert(name.clone(), Content::Unreadable);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        size.adapt(names.len(), total);
        Ok(Some(contents))
    }

    /// The rounds and their bytes; `None` if they have too many.
    async fn rounds(
        self,
        names: &[RoundName],
    ) -> Result<Option<(Vec<(RoundName, Content)>, usize)>, CaptureError> {
        let attachments: Vec<i32> = names.iter().map(|(attachment, _)| attachment.0).collect();
        let (ids, keys): (Vec<i64>, Vec<&str>) = names.iter().map(|(_, id)| id.columns()).unzip();
        let parameters: [Parameter<'_>; 3] =
            [(&attachments, Type::INT4_ARRAY), (&ids, Type::INT8_ARRAY), (&keys, Type::TEXT_ARRAY)];
        let answer = self.session.query_bounded(self.query, &parameters, CONTENT_BYTES);
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
