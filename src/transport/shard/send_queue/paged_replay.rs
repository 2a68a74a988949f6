//! The send queue of a connection that gets rounds of the database page by page.

use std::time::Instant;

use super::SendQueue;
use crate::{
    ops::memory_budget::Charge,
    stream::{
        frame::Frame,
        replay::{PageKind, ReplayPage},
    },
    transport::{
        read_pace::ReadPace,
        shard::{
            protocol::Protocol,
            replay_task::{ReplayHandle, ReplayNumber},
        },
    },
};

/// A replay whose rounds the database has.
#[derive(Debug)]
pub(in crate::transport::shard) struct PagedReplay {
    pub(super) handle: ReplayHandle,
    /// The first rounds after the stored ones.
    then: Vec<Frame>,
    /// The memory of the page that waits for the socket.
    charge: Option<Charge>,
    /// When the next page was asked for; `None` while one waits for the socket.
    requested_at: Option<Instant>,
}

impl PagedReplay {
    /// Its first page is read without a request.
    pub(in crate::transport::shard) fn new(handle: ReplayHandle, then: Vec<Frame>) -> Box<Self> {
        Box::new(Self { handle, then, charge: None, requested_at: Some(Instant::now()) })
    }
}

impl SendQueue {
    /// The replay from the database that has not ended.
    pub(in crate::transport::shard) fn replay(&self) -> Option<ReplayNumber> {
        self.replay.as_ref().map(|replay| replay.handle.number)
    }

    /// Adds the next rounds of the replay.
    pub(in crate::transport::shard) fn push_page(
        &mut self,
        page: ReplayPage,
        protocol: Protocol,
        now: Instant,
    ) {
        let requested_at = self.replay.as_mut().and_then(|replay| replay.requested_at.take());
        match (&mut self.pace, requested_at) {
            // The peer is not to blame for the time that the database took.
            (Some(pace), Some(at)) => pace.pause(now.saturating_duration_since(at)),
            (Some(_), None) => {}
            (None, _) => self.pace = Some(ReadPace::new(now)),
        }
        match page.kind {
            PageKind::Rounds => {
                page.frames.iter().for_each(|frame| self.push_kept(protocol.round(frame), 1));
            }
            PageKind::Seeds { are_last } => {
                for (bytes, rounds) in protocol.seeds(&page.frames, are_last) {
                    self.push_kept(bytes, rounds);
                }
            }
        }
        if let Some(replay) = &mut self.replay {
            replay.charge = Some(page.charge);
        }
    }

    /// Adds the rounds that follow the stored ones.
    pub(in crate::transport::shard) fn end_stored_rounds(&mut self, protocol: Protocol) {
        let Some(replay) = self.replay.take() else { return };
        replay.then.iter().for_each(|frame| self.push_kept(protocol.round(frame), 1));
    }

    /// Asks for the next page of the replay once the last one was sent.
    pub(in crate::transport::shard) fn request_page(&mut self, now: Instant) {
        if self.segments.is_empty()
            && !self.is_closing()
            && let Some(replay) = &mut self.replay
            && replay.requested_at.is_none()
        {
            replay.requested_at = Some(now);
            replay.charge = None;
            replay.handle.request_page();
        }
    }
}
