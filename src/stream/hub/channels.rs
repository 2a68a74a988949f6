//! The channels of the subscriptions: one for each topic with a subscriber.
//!
//! A batch stays in its channel until the slowest subscription has taken it. While the rounds that are
//! in no ring buffer any more have more than the memory for queues, the channels drop what was not
//! taken. The subscriptions notice it as a lag, and are refilled from the ring buffers (I4).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::broadcast::Sender;

use super::{Batch, LAG_BATCHES, Placed};
use crate::{
    ops::{
        memory_budget::MemoryBudget,
        telemetry::metrics::{MemoryUse, Metrics},
    },
    stream::topic::{Topic, TopicIndex},
};

/// Below this number of channels, those without a subscriber are not searched for.
const FEW: usize = 64;
/// The publisher of a large transaction waits while a channel has more than this part of the memory
/// for queues.
const QUEUE_PART: usize = 8;

/// A channel, and the bytes of the batches that a subscription has not taken yet.
#[derive(Debug)]
struct Channel {
    topic: Topic,
    sender: Sender<Batch>,
    /// Of each batch, oldest first.
    unread: VecDeque<usize>,
    bytes: usize,
}

impl Channel {
    fn new(topic: Topic) -> Self {
        Self { topic, sender: Sender::new(LAG_BATCHES), unread: VecDeque::new(), bytes: 0 }
    }

    /// Returns false if there is no subscription.
    fn send(&mut self, share: Vec<Placed>) -> bool {
        let bytes = share.iter().map(|placed| placed.frame.size()).sum();
        let is_sent = self.sender.send(share.into()).is_ok();
        if is_sent {
            self.unread.push_back(bytes);
            self.bytes += bytes;
        }
        is_sent
    }

    /// Forgets the batches that all subscriptions have taken, or that the channel has dropped.
    fn forget_taken(&mut self) {
        let queued = self.sender.len();
        while self.unread.len() > queued
            && let Some(bytes) = self.unread.pop_front()
        {
            self.bytes -= bytes;
        }
    }

    /// Drops the batches that wait: the channel keeps only its last [`LAG_BATCHES`], which are empty
    /// then, but for one if it `gets_next`. A subscription that has taken all of the others does not
    /// lag by that.
    fn drop_unread(&mut self, gets_next: bool) {
        let empty: Batch = Arc::new([]);
        for _ in usize::from(gets_next)..LAG_BATCHES {
            // The only error is that the channel has no subscriber.
            let _ = self.sender.send(Arc::clone(&empty));
        }
        self.unread.clear();
        self.bytes = 0;
    }
}

#[derive(Debug)]
pub(super) struct Channels {
    channels: HashMap<u32, Channel>,
    numbers: HashMap<Topic, u32>,
    index: TopicIndex,
    /// Numbers of removed channels.
    free: Vec<u32>,
    /// The channels with batches that were not taken when it was last looked at.
    waiting: BTreeSet<u32>,
    /// How many channels had a subscriber at the last search.
    used: usize,
    budget: MemoryBudget,
    gauge: Gauge,
}

impl Channels {
    pub(super) fn new(budget: MemoryBudget, metrics: &Metrics) -> Self {
        Self {
            channels: HashMap::new(),
            numbers: HashMap::new(),
            index: TopicIndex::default(),
            free: Vec::new(),
            waiting: BTreeSet::new(),
            used: 0,
            budget,
            gauge: metrics.topic_queue_bytes.clone(),
        }
    }

    /// The channel of a topic; made if there is none.
    pub(super) fn of(&mut self, topic: &Topic) -> Sender<Batch> {
        if let Some(channel) = self.numbers.get(topic).and_then(|it| self.channels.get(it)) {
            return channel.sender.clone();
        }
        self.tidy_up();
        let channel = Channel::new(topic.clone());
        let sender = channel.sender.clone();
        let number = self.free.pop().unwrap_or(self.channels.len() as u32);
        self.index.add(topic, number);
        self.numbers.insert(topic.clone(), number);
        self.channels.insert(number, channel);
        sender
    }

    /// Sends every topic its share of a batch, in order.
    pub(super) fn send(&mut self, batch: &Batch) {
        self.forget_taken();
        let mut shares: BTreeMap<u32, Vec<Placed>> = BTreeMap::new();
        for placed in batch.iter() {
            for number in self.index.of(&placed.game.0, &placed.game.1) {
                shares.entry(number).or_default().push(placed.clone());
            }
        }
        if self.budget.is_exhausted(MemoryUse::queues) {
            self.drop_unread(&shares);
        }
        for (number, share) in shares {
            let Some(channel) = self.channels.get_mut(&number) else { continue };
            match channel.send(share) {
                true => drop(self.waiting.insert(number)),
                false => self.remove(number),
            }
        }
    }

    /// Whether a channel has more rounds than it should.
    pub(super) fn is_behind(&mut self) -> bool {
        self.forget_taken();
        let most = self.budget.share(MemoryUse::queues) / QUEUE_PART;
        let mut waiting = self.waiting.iter().filter_map(|number| self.channels.get(number));
        waiting.any(|channel| channel.bytes > most)
    }

    /// Ends every subscription.
    pub(super) fn clear(&mut self) {
        self.channels.clear();
        self.numbers.clear();
        self.index = TopicIndex::default();
        self.free.clear();
        self.waiting.clear();
        self.gauge.set(0);
    }

    /// Forgets the batches that were taken, and shows the bytes of the others.
    fn forget_taken(&mut self) {
        let (channels, mut bytes) = (&mut self.channels, 0);
        self.waiting.retain(|number| {
            let Some(channel) = channels.get_mut(number) else { return false };
            channel.forget_taken();
            bytes += channel.bytes;
            !channel.unread.is_empty()
        });
        self.gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Makes room for these shares.
    fn drop_unread(&mut self, shares: &BTreeMap<u32, Vec<Placed>>) {
        for number in std::mem::take(&mut self.waiting) {
            if let Some(channel) = self.channels.get_mut(&number) {
                channel.drop_unread(shares.contains_key(&number));
            }
        }
        self.gauge.set(0);
    }

    /// Removes channels without a subscriber once there are twice as many channels as were in use.
    /// [`Self::send`] removes those that get rounds.
    fn tidy_up(&mut self) {
        if self.channels.len() < FEW.max(2 * self.used) {
            return;
        }
        let unused = |(_, channel): &(&u32, &Channel)| channel.sender.receiver_count() == 0;
        let unused: Vec<u32> = self.channels.iter().filter(unused).map(|(it, _)| *it).collect();
        unused.into_iter().for_each(|number| self.remove(number));
        self.used = self.channels.len();
    }

    fn remove(&mut self, number: u32) {
        if let Some(channel) = self.channels.remove(&number) {
            self.index.remove(&channel.topic, number);
            self.numbers.remove(&channel.topic);
            self.waiting.remove(&number);
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::round::GameId;

    #[test]
    fn channels_without_subscribers_are_removed_with_or_without_new_rounds() {
        let mut channels = Channels::new(MemoryBudget::unlimited(), &Metrics::default());
        let kept = channels.of(&Topic::Everything).subscribe();
        for game in 0..1000 {
            drop(channels.of(&Topic::game(GameId::number(game))).subscribe());
            assert!(channels.channels.len() <= FEW);
        }
        let listens = |channel: &&Channel| channel.sender.receiver_count() > 0;
        assert_eq!(channels.channels.values().filter(listens).count(), 1);
        assert!(channels.of(&Topic::Everything).same_channel(&channels.of(&Topic::Everything)));
        assert_eq!((kept.len(), channels.numbers.len()), (0, channels.channels.len()));
    }
}
