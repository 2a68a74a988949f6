//! What was committed since the last poll, where it is very much: page by page.
//!
//! A night without a link may leave millions of rounds. Each page that is on the stream moves the
//! cursor on: what is kept in memory is bounded, but for a transaction that is larger than a page,
//! and a link that breaks meanwhile costs a page.

use super::{
    Capture, CaptureError,
    cursor::Given,
    listener::Listening,
    poll::{Bounds, Poll},
};
use crate::{ops::telemetry::metrics::Source, stream::transaction::Xid};

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
            let end = page.complete_before();
            met += self.take(listening, &page.rows, given, source).await?;
            let Some((end, after)) = end else {
                self.advance(page)?;
                return Ok(met);
            };
            self.page_is_streamed(end, &page)?;
            bounds = Bounds { until: Some(page.seen.snapshot), after };
        }
    }

    /// Moves the cursor on to where this page is complete.
    fn page_is_streamed(&mut self, end: Xid, page: &Poll) -> Result<(), CaptureError> {
        let position = self.parts.publisher.position();
        let progress = self.progress()?;
        if progress.cursor.advance_before(end, &page.seen, position) {
            // From here on a database with another history is to be searched. Of transactions, not of
            // moments, is the order of pages: what the next ones bring may be older than this one's last.
            let oldest = page.rows.iter().map(|row| row.recorded.at).min();
            progress.last_contact = progress.last_contact.max(oldest.unwrap_or_default());
        }
        self.settle()
    }
}
