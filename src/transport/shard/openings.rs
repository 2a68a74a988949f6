//! The opening of a stream: its head, its seed, and the rounds that a resumed stream starts with.

use std::time::Instant;

use super::{
    connection::SendOutcome,
    connections::Connections,
    replay_task::{ReplayHandle, ReplayNumber, ReplayStep},
    send_queue::{PagedReplay, SendQueue},
};
use crate::stream::hub::{Joint, Later};

impl Connections {
    /// Sends the response head and the opening of the stream.
    pub(super) fn send_opening(
        &mut self,
        slot: u32,
        head: Vec<u8>,
        joint: Joint,
        replay: Option<ReplayHandle>,
    ) {
        let Some(connection) = self.slots.get_mut(slot as usize) else { return };
        let Joint { opening, rest, position } = joint;
        let protocol = connection.protocol;
        let has_more = rest.is_some() || replay.is_some();
        let start = protocol.start(head, opening, has_more);
        connection.awaits_event = start.awaits_event;
        let sent = connection.send(&start.bytes);
        let is_resumed = has_more || !start.replay.is_empty();
        let is_complete = !is_resumed && start.seeds.is_empty() && start.end.is_none();
        let taken = match sent {
            SendOutcome::All if is_complete => {
                return self.metrics.written(protocol, start.rounds.into());
            }
            SendOutcome::All => start.bytes.len(),
            SendOutcome::Partial(taken) => taken,
            SendOutcome::Queued | SendOutcome::Broken => 0,
        };
        let mut send_queue = Box::new(SendQueue::new(position));
        let is_slow_work = is_resumed || !start.seeds.is_empty();
        send_queue.push_rest(start.bytes.into(), start.rounds, taken);
        for (bytes, rounds) in start.seeds {
            send_queue.push_kept(bytes, rounds);
        }
        if has_more {
            send_queue.continue_with(rest.unwrap_or_else(|| Later::all_after(position)));
        }
        match replay {
            Some(handle) => {
                self.replays.insert(handle.number, slot);
                send_queue.replay = Some(PagedReplay::new(handle, start.replay));
            }
            None => start.replay.iter().for_each(|it| send_queue.push_kept(protocol.round(it), 1)),
        }
        if is_slow_work {
            send_queue.limit_replay(Instant::now());
        }
        connection.send_queue = Some(send_queue);
        match start.end {
            Some(reason) => self.end(slot, reason),
            None => self.flush(slot, Instant::now()),
        }
    }

    /// Sends the next rounds of a replay, or what follows the last ones.
    pub(super) fn on_replay_step(&mut self, number: ReplayNumber, step: ReplayStep) {
        let Some(&slot) = self.replays.get(&number) else { return };
        let Some(connection) = self.slots.get_mut(slot as usize) else { return };
        let protocol = connection.protocol;
        let Some(send_queue) = &mut connection.send_queue else { return };
        match step {
            ReplayStep::Page(page) => send_queue.push_page(page, protocol, Instant::now()),
            ReplayStep::End => {
                send_queue.end_stored_rounds(protocol);
                self.replays.remove(&number);
            }
            ReplayStep::Failed(reason) => return self.end(slot, reason),
        }
        self.flush(slot, Instant::now());
    }
}
