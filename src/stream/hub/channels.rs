//! The channels of the subscriptions: one for each topic with a subscriber.

use std::collections::{BTreeMap, HashMap};

use tokio::sync::broadcast::Sender;

use super::{Batch, LAG_BATCHES, Placed};
use crate::stream::topic::{Topic, TopicIndex};

/// Below this number of channels, those without a subscriber are not searched for.
const FEW: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Channels {
    senders: HashMap<u32, (Topic, Sender<Batch>)>,
    numbers: HashMap<Topic, u32>,
    index: TopicIndex,
    /// Numbers of removed channels.
    free: Vec<u32>,
    /// How many channels had a subscriber at the last search.
    used: usize,
}

impl Channels {
    /// The channel of a topic; made if there is none.
    pub(super) fn of(&mut self, topic: &Topic) -> Sender<Batch> {
        if let Some((_, sender)) = self.numbers.get(topic).and_then(|it| self.senders.get(it)) {
            return sender.clone();
        }
        self.tidy_up();
        let sender = Sender::new(LAG_BATCHES);
        let number = self.free.pop().unwrap_or(self.senders.len() as u32);
        self.index.add(topic, number);
        self.numbers.insert(topic.clone(), number);
        self.senders.insert(number, (topic.clone(), sender.clone()));
        sender
    }

    /// Sends every topic its share of a batch, in order.
    pub(super) fn send(&mut self, batch: &Batch) {
        let mut shares: BTreeMap<u32, Vec<Placed>> = BTreeMap::new();
        for placed in batch.iter() {
            for number in self.index.of(&placed.game.0, &placed.game.1) {
                shares.entry(number).or_default().push(placed.clone());
            }
        }
        for (number, share) in shares {
            let Some((_, sender)) = self.senders.get(&number) else { continue };
            // The only error is that the channel has no subscriber.
            if sender.send(share.into()).is_err() {
                self.remove(number);
            }
        }
    }

    /// Removes channels without a subscriber once there are twice as many channels as were in use.
    /// [`Self::send`] removes those that get rounds.
    fn tidy_up(&mut self) {
        if self.senders.len() < FEW.max(2 * self.used) {
            return;
        }
        let unused =
            |(_, (_, sender)): &(&u32, &(Topic, Sender<Batch>))| sender.receiver_count() == 0;
        let unused: Vec<u32> = self.senders.iter().filter(unused).map(|(it, _)| *it).collect();
        unused.into_iter().for_each(|number| self.remove(number));
        self.used = self.senders.len();
    }

    fn remove(&mut self, number: u32) {
        if let Some((topic, _)) = self.senders.remove(&number) {
            self.index.remove(&topic, number);
            self.numbers.remove(&topic);
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
        let mut channels = Channels::default();
        let kept = channels.of(&Topic::Everything).subscribe();
        for game in 0..1000 {
            drop(channels.of(&Topic::game(GameId::number(game))).subscribe());
            assert!(channels.senders.len() <= FEW);
        }
        let listens = |(_, sender): &(Topic, Sender<Batch>)| sender.receiver_count() > 0;
        assert_eq!(channels.senders.values().filter(|it| listens(it)).count(), 1);
        assert!(channels.of(&Topic::Everything).same_channel(&channels.of(&Topic::Everything)));
        assert_eq!((kept.len(), channels.numbers.len()), (0, channels.senders.len()));
    }
}
