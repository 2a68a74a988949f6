//! One subscriber's view of a topic: what follows its opening.

use std::{collections::HashSet, sync::Arc};

use tokio::sync::broadcast::{
    Receiver,
    error::{RecvError, TryRecvError},
};

use super::{Batch, Finish, Hub, Placed, Position, Xid};
use crate::{frame::Frame, topic::Topic};

/// What a subscription gives next.
#[derive(Debug)]
pub enum Delivery {
    /// Rounds in order, at least one: all that were waiting.
    Rounds(Vec<Frame>),
    /// The subscriber fell further behind than memory reaches: close with 1013.
    TooSlow,
    /// The hub is gone: the process is stopping.
    Closed,
}

/// Rounds that a subscriber got from the database while the hub may still have to publish them.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// What was given.
    pub finishes: Arc<HashSet<Finish>>,
    /// Transactions from this one on were not seen by the query.
    pub until: Xid,
}

/// The live rounds of a topic that follow an opening, each once, in order.
#[derive(Debug)]
pub struct Subscription {
    hub: Hub,
    topic: Topic,
    position: Position,
    receiver: Receiver<Batch>,
    /// Set when the channel dropped batches that were not taken yet.
    lagged: bool,
    replayed: Option<Replayed>,
}

impl Subscription {
    pub(super) fn new(
        hub: Hub,
        topic: Topic,
        position: Position,
        receiver: Receiver<Batch>,
        replayed: Option<Replayed>,
    ) -> Self {
        Self { hub, topic, position, receiver, lagged: false, replayed }
    }

    /// Waits for the next rounds. Cancel safe: what is taken is returned at once.
    pub async fn next(&mut self) -> Delivery {
        loop {
            if self.lagged {
                match self.refill() {
                    Some(missed) if missed.is_empty() => {}
                    Some(missed) => return Delivery::Rounds(missed),
                    None => return Delivery::TooSlow,
                }
            }
            match self.receiver.recv().await {
                Ok(batch) => {
                    let rounds = self.take_with_all_that_wait(&batch);
                    if !rounds.is_empty() {
                        return Delivery::Rounds(rounds);
                    }
                }
                Err(RecvError::Lagged(_)) => self.lagged = true,
                Err(RecvError::Closed) => return Delivery::Closed,
            }
        }
    }

    /// Makes the next call behave as after a lag.
    #[cfg(test)]
    pub(super) fn lagged_for_test(&mut self) {
        self.lagged = true;
    }

    fn take_with_all_that_wait(&mut self, batch: &Batch) -> Vec<Frame> {
        // Read before draining: what was settled by now is in the channel by now.
        let settled = self.hub.settled();
        let mut rounds = self.take(batch);
        let end = loop {
            match self.receiver.try_recv() {
                Ok(batch) => rounds.extend(self.take(&batch)),
                Err(end) => break end,
            }
        };
        // The channel tells of a lag only once.
        self.lagged = matches!(end, TryRecvError::Lagged(_));
        if !self.lagged {
            self.replayed.take_if(|replayed| settled >= replayed.until);
        }
        rounds
    }

    fn take(&mut self, placed: &[Placed]) -> Vec<Frame> {
        let replayed = self.replayed.as_ref();
        let known = |placed: &Placed| replayed.is_some_and(|r| r.finishes.contains(&placed.finish));
        let last = self.position;
        let new = placed.iter().filter(|placed| placed.position > last);
        let rounds = new.clone().filter(|placed| !known(placed)).map(|p| p.frame.clone()).collect();
        self.position = new.map(|placed| placed.position).last().unwrap_or(last);
        rounds
    }

    fn refill(&mut self) -> Option<Vec<Frame>> {
        let (missed, receiver) = self.hub.refill(&self.topic, self.position)?;
        self.receiver = receiver;
        self.lagged = false;
        Some(self.take(&missed))
    }
}
