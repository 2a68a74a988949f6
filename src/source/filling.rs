//! The hub's memory is filled at the start: recent rounds, the latest of each game, and what finished
//! lately, which is no news after a failover.

use super::{
    Capture, CaptureError, OVERLAP_MICROS, Progress,
    cursor::{Cursor, Given, Moment, Seen, moment},
    listener::{Identity, Listening},
};
use crate::{
    ops::telemetry::metrics::Source,
    stream::{hub::Captured, transaction::Xid},
};

/// What has been read so far. All of it takes 0.3 s beside 36,000 rounds of the last ten minutes, and
/// more on a machine with much to do: a link that breaks sooner, again and again, still gets on.
#[derive(Debug)]
pub(super) struct Filling {
    identity: Identity,
    /// Where the stream begins.
    start: Seen,
    /// Whether it is known that a crash takes nothing back of what `start` sees.
    is_flushed: bool,
    /// With the transaction up to which some may be missing.
    recent: Option<(Vec<Captured>, Xid)>,
    lately: Option<Vec<Moment>>,
}

impl Filling {
    async fn begin(listening: &Listening) -> Result<Self, CaptureError> {
        let start = listening.poll(&listening.snapshot().await?).await?.seen;
        let identity = listening.identity.clone();
        Ok(Self { identity, start, is_flushed: false, recent: None, lately: None })
    }

    /// Whether all that happened since is there to be read on this connection.
    async fn continues(&self, listening: &Listening) -> Result<bool, CaptureError> {
        Ok(self.is_flushed && listening.continues(&self.identity, &self.start.snapshot).await?)
    }

    async fn read(&mut self, listening: &Listening, per_game: i64) -> Result<(), CaptureError> {
        if self.recent.is_none() {
            self.recent = Some(listening.recent(&self.start.snapshot, per_game).await?);
            self.is_flushed = listening.is_flushed(&self.start).await?;
        }
        if self.lately.is_none() {
            let since = listening.now().await? - OVERLAP_MICROS;
            self.lately = Some(listening.moments_since(since).await?);
        }
        Ok(())
    }
}

impl Capture {
    /// First connection, or the first ones: fills the hub's memory.
    pub(super) async fn fill(&mut self, listening: &Listening) -> Result<(), CaptureError> {
        let continues = match &self.filling {
            Some(filling) => filling.continues(listening).await?,
            None => false,
        };
        if !continues {
            self.filling = Some(Filling::begin(listening).await?);
        }
        if let Some(filling) = &mut self.filling {
            let read = filling.read(listening, self.parts.history).await;
            // Whoever has answered on this link was there when the stream's beginning was chosen.
            self.greet(listening).await?;
            read?;
        }
        let (trimmed, latest) = (listening.trimmed().await?, listening.latest().await?);
        let last_contact = listening.now().await?;
        let Some(Filling { start, recent: Some((recent, floor)), lately: Some(lately), .. }) =
            self.filling.take()
        else {
            return Err(CaptureError::Closed);
        };
        let mut cursor = Cursor::new(start.snapshot);
        cursor.remember_older(lately);
        cursor.remember_older(recent.iter().map(|captured| moment(&captured.round)));
        tracing::info!(rounds = recent.len(), games = latest.len(), "memory filled");
        self.parts.publisher.preload(recent, latest, trimmed.max(floor));
        let identity = listening.identity.clone();
        self.progress = Some(Progress { cursor, identity, last_contact });
        self.begin()?;
        // What the latest rounds were read with is newer than `start`: this poll passes it.
        self.take_pages(listening, &Given::default(), Source::catch_up).await.map(drop)
    }
}
