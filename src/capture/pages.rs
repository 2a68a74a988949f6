//! What was committed since the last poll, where it is very much: page by page.
//!
//! A night without a link may leave millions of rounds. Each page that is on the stream moves the
//! cursor on: what is kept in memory is bounded, but for a transaction that is larger than a page,
//! and a link that breaks meanwhile costs a page.

use super::{
    Capture, CaptureError, cursor::Given, listener::Listening, poll::Poll, snapshot::Snapshot,
};
use crate::{
    hub::{Finish, Xid},
    round::RoundId,
    telemetry::metrics::Source,
};

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

impl Capture {
    /// Publishes what was committed since the cursor's snapshot. Returns how many of
    /// the `given` rounds it met.
    pub(super) async fn take_pages(
        &mut self,
        listening: &Listening,
        given: &Given,
        source: Source,
    ) -> Result<usize, CaptureError> {
        let (mut bounds, mut met, mut first) = (Bounds::beginning(&self.saved()?), 0, None);
        loop {
            // A node that comes meanwhile must not take itself to be alone.
            self.greet(listening).await?;
            let saved = self.saved()?;
            let mut page = listening.page(&saved, &bounds).await?;
            // All pages tell of one moment.
            (page.begun, page.at) = *first.get_or_insert((page.begun, page.at));
            if bounds.until.is_some() {
                let trimmed = listening.trimmed().await?;
                if trimmed >= bounds.after.0 && !saved.sees(trimmed) {
                    return Err(CaptureError::Trimmed);
                }
            }
            let Some(end) = page.leave_out_last_transaction() else {
                met += self.take(listening, &page.rows, given, source).await?;
                self.advance(page)?;
                return Ok(met);
            };
            met += self.take(listening, &page.rows, given, source).await?;
            bounds = self.page_is_streamed(end, &page, bounds)?;
        }
    }

    /// Moves the cursor on to where this page is complete; where the next one begins.
    fn page_is_streamed(
        &mut self,
        end: Xid,
        page: &Poll,
        bounds: Bounds,
    ) -> Result<Bounds, CaptureError> {
        let Some(last) = page.rows.last() else { return Ok(bounds) };
        let position = self.parts.publisher.position();
        let progress = self.progress()?;
        if progress.cursor.advance_before(end, &page.seen, position) {
            // What a database with another history is to be searched for begins here.
            progress.last_contact = progress.last_contact.max(last.recorded.at);
        }
        self.settle()?;
        Ok(Bounds { until: Some(page.seen.snapshot.clone()), after: last.finish() })
    }
}
