//! Order, memory and seeds. (Interface; being filled in.)

use crate::{frame::Frame, round::RoundId, topic::Topic};

/// How a stream starts.
#[derive(Debug)]
pub enum Opening {
    /// Not resumed: the latest round of the topic, if there is one.
    Seed(Option<Frame>),
    /// Resumed: every round of the topic after the named one, in order.
    Resumed(Vec<Frame>),
    /// The resume point cannot be honoured: the stream starts over with this seed.
    Gap(Option<Frame>),
}

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

/// The live rounds of a topic that follow an [`Opening`], each once, in order.
#[derive(Debug)]
pub struct Subscription {}

impl Subscription {
    /// Waits for the next rounds. Cancel safe.
    pub async fn next(&mut self) -> Delivery {
        std::future::pending().await
    }
}

#[allow(dead_code)]
fn _interface(_: RoundId, _: Topic) {}
