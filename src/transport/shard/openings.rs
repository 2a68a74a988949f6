//! The opening of a stream: its head, its seed, and the rounds that a resumed stream starts with.

use std::time::Instant;

use super::{
    connection::SendOutcome,
    connections::Connections,
    protocol::{Protocol, StreamStart},
    replay_task::{ReplayHandle, ReplayNumber, ReplayStep},
    send_queue::{PagedReplay, SendQueue},
};
use crate::stream::hub::{Joint, Later, Position};

/// The rounds of a resumed stream that its opening does not hold.
struct Continuation {
    /// Those of the ring buffers.
    later: Option<Later>,
    /// Those of the database.
    replay: Option<ReplayHandle>,
}

impl Continuation {
    fn is_empty(&self) -> bool {
        self.later.is_none() && self.replay.is_none()
    }
}

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
        let Joint { opening, rest: later, position } = joint;
        let (protocol, continuation) = (connection.protocol, Continuation { later, replay });
        let start = protocol.start(head, opening, !continuation.is_empty());
        connection.awaits_event = start.awaits_event;
        let taken = match connection.send(&start.bytes) {
            SendOutcome::All if is_complete(&start, &continuation) => {
                return self.metrics.written(protocol, start.rounds.into());
            }
            SendOutcome::All => start.bytes.len(),
            SendOutcome::Partial(taken) => taken,
            SendOutcome::Queued | SendOutcome::Broken => 0,
        };
        if let Some(handle) = &continuation.replay {
            self.replays.insert(handle.number, slot);
        }
        let end = start.end;
        let send_queue = queue(protocol, position, (start, taken), continuation);
        connection.send_queue = Some(Box::new(send_queue));
        match end {
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

/// Whether live rounds alone follow the bytes of the start.
fn is_complete(start: &StreamStart, continuation: &Continuation) -> bool {
    !is_slow_work(start, continuation) && start.end.is_none()
}

/// Whether more follows than a client takes at once.
fn is_slow_work(start: &StreamStart, continuation: &Continuation) -> bool {
    !continuation.is_empty() || !start.replay.is_empty() || !start.seeds.is_empty()
}

/// The send queue of a stream whose socket took the first `taken` bytes of the start.
fn queue(
    protocol: Protocol,
    position: Position,
    (start, taken): (StreamStart, usize),
    continuation: Continuation,
) -> SendQueue {
    let mut send_queue = SendQueue::new(position);
    if is_slow_work(&start, &continuation) {
        send_queue.limit_replay(Instant::now());
    }
    send_queue.push_rest(start.bytes.into(), start.rounds, taken);
    for (bytes, rounds) in start.seeds {
        send_queue.push_kept(bytes, rounds);
    }
    if !continuation.is_empty() {
        let later = continuation.later.unwrap_or_else(|| Later::all_after(position));
        send_queue.continue_with(later);
    }
    match continuation.replay {
        Some(handle) => send_queue.replay = Some(PagedReplay::new(handle, start.replay)),
        None => start.replay.iter().for_each(|it| send_queue.push_kept(protocol.round(it), 1)),
    }
    send_queue
}
