//! The content of rounds that are named, however many of them cannot be read.

use std::{borrow::Cow, collections::HashMap};

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
#[derive(Clone, Debug)]
pub(super) struct ContentReader<'a> {
    pub(super) session: &'a Session,
    /// `sql/rounds_by_id.sql`.
    pub(super) query: &'a PreparedQuery,
    /// `sql/existing_rows.sql`.
    pub(super) existing: Cow<'static, str>,
}

impl ContentReader<'_> {
    /// Reads them in as many answers as they need.
    pub(super) async fn read_all(
        &self,
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
        &self,
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
        let missing = names.iter().filter(|name| !contents.contains_key(*name)).cloned();
        let missing: Vec<RoundName> = missing.collect();
        contents.extend(self.read_missing(&missing).await?);
        Ok(Some(contents))
    }

    /// What has become of the rounds that the views lack: never [`Content::Missing`].
    pub(super) async fn read_missing(
        &self,
        names: &[RoundName],
    ) -> Result<HashMap<RoundName, Content>, CaptureError> {
        let mut contents: HashMap<_, _> =
            names.iter().map(|name| (name.clone(), Content::Deleted)).collect();
        if names.is_empty() {
            return Ok(contents);
        }
        match self.existing(names).await {
            Ok(existing) => contents.extend(existing),
            Err(CaptureError::Database(error)) if error.as_db_error().is_some() => {
                tracing::debug!(%error, "cannot tell deleted rounds from unfinished ones");
            }
            Err(error) => return Err(error),
        }
        Ok(contents)
    }

    async fn existing(
        &self,
        names: &[RoundName],
    ) -> Result<Vec<(RoundName, Content)>, CaptureError> {
        let (attachments, ids, keys) = columns(names);
        let parameters: [Parameter<'_>; 3] =
            [(&attachments, Type::INT4_ARRAY), (&ids, Type::INT8_ARRAY), (&keys, Type::TEXT_ARRAY)];
        let answer = self.session.query(&self.existing, &parameters);
        let mut existing = Vec::new();
        for row in &within(CATCH_UP_WITHIN, answer).await? {
            let Ok(id) = rows::round_id(row)? else { continue };
            // A finished round that the views lack has no game.
            let is_finished: bool = row.try_get("is_finished")?;
            let content = if is_finished { Content::Unreadable } else { Content::Unfinished };
            existing.push(((rows::attachment(row)?, id), content));
        }
        Ok(existing)
    }

    /// The rounds and their bytes; `None` if they have too many.
    async fn rounds(
        &self,
        names: &[RoundName],
    ) -> Result<Option<(Vec<(RoundName, Content)>, usize)>, CaptureError> {
        let (attachments, ids, keys) = columns(names);
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

/// The columns of names, as the queries take them.
fn columns(names: &[RoundName]) -> (Vec<i32>, Vec<i64>, Vec<&str>) {
    let attachments = names.iter().map(|(attachment, _)| attachment.0).collect();
    let (ids, keys) = names.iter().map(|(_, id)| id.columns()).unzip();
    (attachments, ids, keys)
}
