//! The first read of the database: recent rounds, the latest round of each game, and what finished
//! recently, which is not new after a failover.

use std::collections::HashSet;

use super::{
    content_reader::ChunkSize,
    cursor::{Cursor, RoundKey, Seen, round_key},
    error::CaptureError,
    listener::{Identity, Listener},
    poll::{Bounds, Content},
    publisher::RoundPublisher,
    running::{OVERLAP_MICROS, Running},
};
use crate::stream::{frame::encoded_bytes, hub::Captured, transaction::Xid};

/// The part that has been read. The whole takes 0.3 s beside 36,000 rounds of the last ten minutes,
/// and longer on a busy machine: a connection that breaks sooner, again and again, still gets on.
#[derive(Debug)]
pub(super) struct InitialLoad {
    identity: Identity,
    /// Where the stream begins.
    start: Seen,
    /// Whether no crash can take back anything that `start` sees.
    is_flushed: bool,
    /// With the transaction up to which some may be missing.
    recent: Option<(Vec<Captured>, Xid)>,
    finished: Option<Vec<RoundKey>>,
}

impl InitialLoad {
    /// Continues `loaded` if it is still whole, else begins; `per_game`: recent rounds of each game,
    /// as far as they fit into `history_bytes`.
    pub(super) async fn read(
        loaded: &mut Option<Self>,
        listener: &Listener,
        per_game: i64,
        history_bytes: usize,
    ) -> Result<(), CaptureError> {
        let load = match loaded.take() {
            Some(load) if load.continues(listener).await? => load,
            _ => Self::begin(listener).await?,
        };
        loaded.insert(load).read_rest(listener, per_game, history_bytes).await
    }

    async fn begin(listener: &Listener) -> Result<Self, CaptureError> {
        let saved = listener.queries().snapshot().await?;
        let bounds = Bounds::beginning(&saved);
        let start = listener.reader().page(&saved, &bounds).await?.seen;
        let identity = listener.identity.clone();
        Ok(Self { identity, start, is_flushed: false, recent: None, finished: None })
    }

    /// Whether all that happened since can be read on this connection.
    async fn continues(&self, listener: &Listener) -> Result<bool, CaptureError> {
        Ok(self.is_flushed && listener.continues(&self.identity, &self.start.snapshot).await?)
    }

    /// Reads the recent rounds, the newest first, until the memory for them is full.
    async fn read_recent(
        &self,
        listener: &Listener,
        per_game: i64,
        history_bytes: usize,
    ) -> Result<(Vec<Captured>, Xid), CaptureError> {
        let (mut rows, mut floor) =
            listener.queries().recent(&self.start.snapshot, per_game).await?;
        let (mut recent, mut size, mut bytes) = (Vec::new(), ChunkSize::default(), 0);
        while !rows.is_empty() {
            for found in listener.reader().take_with_contents(&mut rows, &mut size).await? {
                let finish = found.row.finish().clone();
                let Content::Round(round) = found.content else {
                    listener.queries().count(&found.content, &finish.name());
                    // It takes the place of an older round of its game, which is missing then.
                    floor = floor.max(finish.xid);
                    continue;
                };
                bytes += encoded_bytes(round.extras.len());
                if bytes > history_bytes {
                    rows.clear();
                    floor = floor.max(finish.xid);
                    break;
                }
                let (xid, attachment, before) = (finish.xid, finish.attachment, found.row.before);
                let (round, at) = (*round, Some(found.row.key.at));
                let (poll, recorded) = (0, None);
                recent.push(Captured { round, xid, attachment, before, poll, at, recorded });
            }
        }
        recent.reverse();
        Ok((recent, floor))
    }

    async fn read_rest(
        &mut self,
        listener: &Listener,
        per_game: i64,
        history_bytes: usize,
    ) -> Result<(), CaptureError> {
        let queries = listener.queries();
        if self.recent.is_none() {
            self.recent = Some(self.read_recent(listener, per_game, history_bytes).await?);
            queries.count_skipped(&self.start.snapshot).await?;
            self.is_flushed = queries.is_flushed(&self.start).await?;
        }
        if self.finished.is_none() {
            let since = queries.now().await? - OVERLAP_MICROS;
            let finished = queries.moments_since(since).await?;
            self.finished = Some(finished.into_iter().map(|round| round.key).collect());
        }
        Ok(())
    }

    /// Fills the hub's ring buffers; what follows is read from `start` on.
    pub(super) async fn finish(
        self,
        listener: &Listener,
        publisher: &mut RoundPublisher,
    ) -> Result<Running, CaptureError> {
        let Self { start, recent, finished, .. } = self;
        let (recent, floor) = recent.unwrap_or_default();
        let queries = listener.queries();
        let trimmed = queries.trimmed().await?;
        let last_contact = queries.now().await?;
        publisher.sink.begin_load();
        let games = Self::preload_latest(&recent, listener, publisher).await?;
        let mut cursor = Cursor::new(start.snapshot);
        cursor.remember_older(finished.unwrap_or_default());
        cursor.remember_older(recent.iter().map(|captured| round_key(&captured.round)));
        tracing::info!(rounds = recent.len(), games, "recent rounds loaded");
        publisher.sink.preload(recent, trimmed.max(floor)).await?;
        cursor.begins_at(publisher.sink.position());
        let identity = listener.identity.clone();
        let running = Running { cursor, identity, last_contact };
        publisher.set_durable_position(&running);
        Ok(running)
    }

    /// Loads the latest round of each game that is not among the recent ones, chunk by chunk: all of
    /// them may be larger than the memory. Returns how many games have a latest round.
    async fn preload_latest(
        recent: &[Captured],
        listener: &Listener,
        publisher: &mut RoundPublisher,
    ) -> Result<usize, CaptureError> {
        let queries = listener.queries();
        let mut names = queries.latest_names().await?;
        let games = names.len();
        let known: HashSet<_> = recent.iter().map(|captured| &captured.round.round_id).collect();
        names.retain(|latest| latest.round.as_ref().is_none_or(|(_, id)| !known.contains(id)));
        let (mut rest, mut size) = (&names[..], ChunkSize::default());
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rest.len().min(size.rounds()));
            let Some(mut latest) = queries.latest(chunk, &mut size).await? else { continue };
            // Behind a latest round that cannot be sent, a recent one may be the latest.
            latest.retain(|round| !known.contains(&round.round_id));
            publisher.sink.preload_latest(latest).await?;
            rest = after;
        }
        Ok(games)
    }
}
