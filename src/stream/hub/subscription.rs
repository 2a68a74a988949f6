//! One subscriber's view of a topic: the rounds after its opening.

use tokio::sync::broadcast::{
    Receiver,
    error::{RecvError, TryRecvError},
};

use super::{Batch, Hub, Later, Placed, Position};
use crate::stream::{frame::Frame, topic::Topic};

/// The next event of a subscription.
#[derive(Debug)]
pub enum Delivery {
    /// All waiting rounds in order, at least one.
    Rounds(Vec<Frame>),
    /// The ring buffers have evicted rounds that the subscriber missed: close with 1013.
    TooSlow,
    /// The hub was dropped: the process is stopping.
    Closed,
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
    /// Set while the ring buffers' rounds of a resume were not all taken.
    rest: Option<Later>,
}

impl Subscription {
    pub(super) fn new(
        hub: Hub,
        topic: Topic,
        position: Position,
        receiver: Receiver<Batch>,
    ) -> Self {
        Self { hub, topic, position, receiver, lagged: false, rest: None }
    }

    /// The subscription of a resumed stream, which first gets these rounds of the ring buffers.
    pub(super) fn with_rest(self, rest: Option<Later>) -> Self {
        Self { lagged: rest.is_some(), rest, ..self }
    }

    /// Waits for the next rounds. Cancel safe: taken rounds are returned without another wait.
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
                    let rounds = self.take_all_waiting(&batch);
                    if !rounds.is_empty() {
                        return Delivery::Rounds(rounds);
                    }
                }
                Err(RecvError::Lagged(_)) => self.lagged = true,
                Err(RecvError::Closed) => return Delivery::Closed,
            }
        }
    }

    /// [`Self::next`] without the wait: `None` if no round is waiting.
    pub fn try_next(&mut self) -> Option<Delivery> {
        loop {
            if self.lagged {
                match self.refill() {
                    Some(missed) if missed.is_empty() => {}
                    Some(missed) => return Some(Delivery::Rounds(missed)),
                    None => return Some(Delivery::TooSlow),
                }
            }
            match self.receiver.try_recv() {
                Ok(batch) => {
                    let rounds = self.take_all_waiting(&batch);
                    if !rounds.is_empty() {
                        return Some(Delivery::Rounds(rounds));
                    }
                }
                Err(TryRecvError::Lagged(_)) => self.lagged = true,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Closed) => return Some(Delivery::Closed),
            }
        }
    }

    /// The topic of the subscription.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// A subscription to the same topic that begins now: rounds that wait in this one are not in it.
    pub fn sibling(&self) -> Self {
        self.hub.follow(&mut self.hub.recent(), &self.topic)
    }

    /// Whether the other can replace this one without loss or repetition: both have taken the same
    /// rounds of the same topic, and neither has to be refilled.
    pub fn is_interchangeable_with(&self, other: &Self) -> bool {
        let plain = |one: &Self| !one.lagged;
        plain(self) && plain(other) && self.position == other.position && self.topic == other.topic
    }

    fn take_all_waiting(&mut self, batch: &Batch) -> Vec<Frame> {
        let mut rounds = self.take(batch);
        let end = loop {
            match self.receiver.try_recv() {
                Ok(batch) => rounds.extend(self.take(&batch)),
                Err(end) => break end,
            }
        };
        // The channel reports a lag only once.
        self.lagged = matches!(end, TryRecvError::Lagged(_));
        rounds
    }

    fn take(&mut self, placed: &[Placed]) -> Vec<Frame> {
        let last = self.position;
        let new = placed.iter().filter(|placed| placed.position > last);
        let rounds = new.clone().map(|placed| placed.frame.clone()).collect();
        self.position = new.map(|placed| placed.position).last().unwrap_or(last);
        rounds
    }

    fn refill(&mut self) -> Option<Vec<Frame>> {
        let mut later = self.rest.take().unwrap_or_else(|| Later::all_after(self.position));
        let (missed, receiver) = self.hub.refill(&self.topic, &later)?;
        let last = missed.last().map(|placed| placed.position);
        match receiver {
            Some(receiver) => {
                (self.receiver, self.lagged) = (receiver, false);
                self.position = self.position.max(last.unwrap_or_default());
            }
            None => {
                last.into_iter().for_each(|last| later.advance(last));
                self.rest = Some(later);
            }
        }
        Some(missed.into_iter().map(|placed| placed.frame).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::hub::{
        LAG_BATCHES,
        tests::{drain, hub, live, seed},
    };

    #[test]
    fn a_lag_while_a_subscriber_takes_its_rounds_is_noticed() {
        let (hub, publisher) = hub(LAG_BATCHES * 4);
        let (_, mut subscription) = seed(&hub, &Topic::Everything);
        publisher.publish(vec![live(1, 1)]);
        let first = subscription.receiver.try_recv().expect("a batch");
        // More than the channel holds come before it has asked for the next.
        let last = i64::try_from(LAG_BATCHES * 2).expect("small");
        (2..=last).for_each(|id| publisher.publish(vec![live(id, 1)]));
        let taken = subscription.take_all_waiting(&first);
        assert_eq!((taken.len(), subscription.lagged), (1, true));
        assert_eq!(drain(&mut subscription), ((2..=last).collect(), false));
    }
}
