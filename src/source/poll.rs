//! The answer of a poll, or of a page.

use std::time::Instant;

use tokio_postgres::Row;

use super::{
    cursor::{Lsn, Seen},
    error::CaptureError,
    exact_claim::OtherServers,
    rows::{OutboxRow, outbox_row},
};
use crate::{
    ops::telemetry::metrics::Skipped,
    postgres::rows::{self, DecodedRound, Unsendable},
    stream::{
        round::{Round, RoundId, UnixMillis},
        snapshot::Snapshot,
        transaction::{Attachment, Finish, Xid},
    },
};

/// Rows of a poll, each with its content: more are read in pages.
pub(super) const POLL_ROWS: i64 = 100;
/// Rows of a page: 2 MB, and 0.05 s of a connection that may break at any moment.
pub(super) const PAGE_ROWS: i64 = 10_000;

/// Where a page begins, and up to where all pages read.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    /// The snapshot of the first page: the order of transactions holds within one snapshot only.
    pub(super) until: Option<Snapshot>,
    /// The last row of the page before.
    pub(super) after: Finish,
}

impl Bounds {
    /// Of the first page after this snapshot.
    pub(super) fn beginning(saved: &Snapshot) -> Self {
        let Xid(oldest) = saved.xmin();
        let after = Finish {
            xid: Xid(oldest.saturating_sub(1)),
            attachment: Attachment(i32::MAX),
            round: RoundId::number(i64::MAX),
        };
        Self { until: None, after }
    }
}

/// The round that an outbox row names.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Not read yet: the row is of a page.
    Unread,
    /// It can be sent.
    Round(Box<Round>),
    /// The views lack it: it was deleted, or is unfinished again.
    Missing,
    /// It was deleted.
    Deleted,
    /// It is unfinished again.
    Unfinished,
    /// PostgreSQL cannot read it.
    Unreadable,
    /// It was read, and cannot be sent.
    Unsendable(Unsendable),
}

impl Content {
    pub(super) fn of(decoded: DecodedRound) -> Self {
        match decoded {
            Ok(round) => Self::Round(Box::new(round)),
            Err(unsendable) => Self::Unsendable(unsendable),
        }
    }

    /// Why it is skipped, unless it is a round.
    pub(super) fn skipped(&self) -> Option<Skipped> {
        match self {
            Self::Round(_) => None,
            Self::Unread | Self::Missing | Self::Deleted => Some(Skipped::deleted),
            Self::Unfinished => Some(Skipped::unfinished),
            Self::Unreadable => Some(Skipped::unreadable),
            Self::Unsendable(unsendable) => Some(unsendable.reason()),
        }
    }
}

/// A row of the outbox, and its round.
#[derive(Clone, Debug)]
pub(super) struct FoundRow {
    pub(super) row: OutboxRow,
    pub(super) content: Content,
}

impl FoundRow {
    pub(super) fn is_unread(&self) -> bool {
        matches!(self.content, Content::Unread)
    }

    pub(super) fn is_missing(&self) -> bool {
        matches!(self.content, Content::Missing)
    }
}

/// The rows that a poll found, and the state of the database.
#[derive(Debug)]
pub(super) struct Poll {
    pub(super) seen: Seen,
    /// When it ran, by the database's clock, in microseconds since the epoch.
    pub(super) at: i64,
    /// What it says of other servers.
    pub(super) others: OtherServers,
    pub(super) rows: Vec<FoundRow>,
}

impl Poll {
    /// The answer to a statement that was sent at this time.
    pub(super) fn read(rows: &[Row], asked: Instant) -> Result<Self, CaptureError> {
        let now = UnixMillis::now();
        let found = rows.iter().filter_map(|row| found(row, now).transpose());
        let found = found.collect::<Result<_, _>>()?;
        Ok(Self { rows: found, ..Self::state(rows, asked)? })
    }

    /// The answer of `sql/idle.sql`; none if there are rows.
    pub(super) fn read_idle(rows: &[Row], asked: Instant) -> Result<Option<Self>, CaptureError> {
        let first = rows.first().ok_or(CaptureError::Closed)?;
        match first.try_get("has_rows")? {
            true => Ok(None),
            false => Self::state(rows, asked).map(Some),
        }
    }

    fn state(rows: &[Row], asked: Instant) -> Result<Self, CaptureError> {
        let first = rows.first().ok_or(CaptureError::Closed)?;
        let seen = Seen {
            snapshot: first.try_get::<_, &str>("snapshot")?.parse()?,
            inserted: Lsn(first.try_get("inserted")?),
            flushed: Lsn(first.try_get("flushed")?),
        };
        let (alone, exact_server) = (first.try_get("alone")?, first.try_get("exact_server")?);
        let others = OtherServers { asked, alone, exact_server };
        Ok(Self { seen, at: first.try_get("now_micros")?, others, rows: Vec::new() })
    }

    /// Whether there are so many rows.
    pub(super) fn has_rows(&self, count: i64) -> bool {
        i64::try_from(self.rows.len()).is_ok_and(|rows| rows >= count)
    }

    /// Of a full page: the transaction before which it is complete, and its last row. The last
    /// transaction may have further rows, so it is left out, unless the page has no other.
    pub(super) fn complete_before(&mut self) -> Option<(Xid, Finish)> {
        let (first, end) =
            (self.rows.first()?.row.finish().xid, self.rows.last()?.row.finish().xid);
        if !self.has_rows(PAGE_ROWS) {
            return None;
        }
        if first < end {
            self.rows.retain(|found| found.row.finish().xid < end);
        }
        Some((end, self.rows.last()?.row.finish().clone()))
    }
}

/// `None` for the row that only tells the state of the database.
fn found(row: &Row, now: UnixMillis) -> Result<Option<FoundRow>, CaptureError> {
    let Some(outbox) = outbox_row(row)? else { return Ok(None) };
    let content = if outbox.has_valid_id {
        content(row, now)?
    } else {
        Content::Unsendable(Unsendable::BadId)
    };
    Ok(Some(FoundRow { row: outbox, content }))
}

fn content(row: &Row, now: UnixMillis) -> Result<Content, CaptureError> {
    match row.try_get::<_, Option<bool>>("has_round")? {
        None => Ok(Content::Unread),
        Some(false) => Ok(Content::Missing),
        Some(true) => Ok(Content::of(rows::round(row, now)?)),
    }
}
