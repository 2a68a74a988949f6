//! The send queue of a connection that replays rounds of the database.

use std::time::Instant;

use super::SendQueue;
use crate::{
    ops::memory_budget::Charge,
    stream::{frame::Frame, replay::ReplayPage},
    transport::shard::{
        paged_replay::{ReplayHandle, ReplayNumber},
        protocol::Protocol,
        read_pace::ReadPace,
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
    is_requested: bool,
}

impl PagedReplay {
    /// Its first page is read without a request.
    pub(in crate::transport::shard) fn new(handle: ReplayHandle, then: Vec<Frame>) -> Box<Self> {
        Box::new(Self { handle, then, charge: None, is_requested: true })
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
        if self.segments.is_empty() {
            // The peer is not to blame for the time that the database took.
            self.pace = Some(ReadPace::new(now));
        }
        page.frames.iter().for_each(|frame| self.push_kept(protocol.round(frame), 1));
        if let Some(replay) = &mut self.replay {
            (replay.charge, replay.is_requested) = (Some(page.charge), false);
        }
    }

    /// Adds the rounds that follow the stored ones.
    pub(in crate::transport::shard) fn end_stored_rounds(&mut self, protocol: Protocol) {
        let Some(replay) = self.replay.take() else { return };
        replay.then.iter().for_each(|frame| self.push_kept(protocol.round(frame), 1));
    }

    /// Asks for the next page of the replay once the last one was sent.
    pub(in crate::transport::shard) fn request_page(&mut self) {
        if self.segments.is_empty()
            && !self.is_closing()
            && let Some(replay) = &mut self.replay
            && !std::mem::replace(&mut replay.is_requested, true)
        {
            replay.charge = None;
            replay.handle.request_page();
        }
    }
}
