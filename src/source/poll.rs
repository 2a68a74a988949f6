//! The answer of a poll, or of a page.

use std::time::Instant;

use tokio_postgres::Row;

use super::{
    CaptureError,
    cursor::{Lsn, Seen},
    rows::{OutboxRow, outbox_row},
    snapshot::Snapshot,
};
use crate::stream::{
    round::RoundId,
    transaction::{Finish, Xid},
};

/// Rows of the outbox in one answer: 2 MB, and 0.05 s of a link that may break any moment.
pub(super) const PAGE_ROWS: i64 = 10_000;

/// Where a page begins, and up to where all pages read.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    /// What the first page has seen: the order of transactions holds within one snapshot only.
    pub(super) until: Option<Snapshot>,
    /// The last row of the page before.
    pub(super) after: Finish,
}

impl Bounds {
    /// Of the first page after this snapshot.
    pub(super) fn beginning(saved: &Snapshot) -> Self {
        let Xid(oldest) = saved.xmin();
        Self { until: None, after: (Xid(oldest.saturating_sub(1)), RoundId(i64::MAX)) }
    }
}

/// What was found, and when.
#[derive(Debug)]
pub(super) struct Poll {
    pub(super) seen: Seen,
    /// When it was asked for.
    pub(super) begun: Instant,
    /// When, by the database's clock, in microseconds since the epoch.
    pub(super) at: i64,
    pub(super) rows: Vec<OutboxRow>,
}

impl Poll {
    pub(super) fn read(rows: &[Row], begun: Instant) -> Result<Self, CaptureError> {
        let first = rows.first().ok_or(CaptureError::Closed)?;
        let seen = Seen {
            snapshot: first.try_get::<_, &str>("snapshot")?.parse()?,
            inserted: Lsn(first.try_get("inserted")?),
            flushed: Lsn(first.try_get("flushed")?),
        };
        let at = first.try_get("now_micros")?;
        let rows = rows.iter().filter_map(|row| outbox_row(row).transpose());
        Ok(Self { seen, begun, at, rows: rows.collect::<Result<_, _>>()? })
    }

    /// Whether there may be more than these rows.
    pub(super) fn is_full(&self) -> bool {
        i64::try_from(self.rows.len()).is_ok_and(|rows| rows >= PAGE_ROWS)
    }

    /// Of a full page: the transaction before which it is complete, and its last row. The last
    /// transaction, of which there may be more, is left out, unless the page has no other.
    pub(super) fn complete_before(&mut self) -> Option<(Xid, Finish)> {
        let (first, end) = (self.rows.first()?.finish().0, self.rows.last()?.finish().0);
        if !self.is_full() {
            return None;
        }
        if first < end {
            self.rows.retain(|row| row.finish().0 < end);
        }
        Some((end, self.rows.last()?.finish()))
    }
}
