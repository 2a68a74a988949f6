//! What the soak did beyond the plan, and how often.

use std::{collections::BTreeMap, fmt};

use parking_lot::Mutex;

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A program ended since NATS had no stream, and was started again.
    StartedAgain,
    /// Two nodes whose stores were put back elected no leader, and the third one was started.
    NotElected,
    /// NATS did not get well, and one node was started without its store.
    NodeEmptied,
    /// NATS did not get well, and everything of it was deleted and made again.
    AllEmptied,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartedAgain => "a program ended for want of a stream, and was started again",
            Self::NotElected => "two nodes with old stores elected no leader within a minute",
            Self::NodeEmptied => "NATS did not get well: a node started without its store",
            Self::AllEmptied => "NATS did not get well: all nodes started without their stores",
        })
    }
}

/// Counts the events.
#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<BTreeMap<Event, u32>>);

impl Events {
    /// Counts an event, and prints it with the reason.
    pub(crate) fn note(&self, event: Event, why: impl fmt::Display) {
        println!("{event}: {why}");
        *self.0.lock().entry(event).or_default() += 1;
    }

    /// How often each of them happened.
    pub(crate) fn counts(&self) -> Vec<(Event, u32)> {
        self.0.lock().iter().map(|(event, count)| (*event, *count)).collect()
    }
}
