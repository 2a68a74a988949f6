//! The leader's beat: it tells edges the end of the log, and standbys that a node leads.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{leader_state::LeaderState, request::Bus};

/// Between two beat messages.
pub(crate) const BEAT_EVERY: Duration = Duration::from_millis(500);

/// The form that this program writes. Fields may be added without another one.
const VERSION: u32 = 1;

/// What a capture node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// The form of this message.
    pub(crate) version: u32,
    /// The node's name.
    pub(crate) node: String,
    /// The sequence of its claim. The greatest one leads.
    pub(crate) claim: u64,
    /// The last sequence that it wrote.
    pub(crate) end: u64,
    /// Whether it is connected to the database, and all that is committed is in the log.
    pub(crate) is_live: bool,
    /// Whether another node may take over at once: this one stops, or lost the database.
    pub(crate) is_released: bool,
    /// Whether no server listens to the database without a bus. Otherwise a resume may repeat rounds.
    pub(crate) is_alone: bool,
    /// Whether the node says every second that it works on an answer.
    #[serde(default)]
    pub(crate) gives_signs: bool,
}

impl Beat {
    /// Of a message; `None` if it cannot be read.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }

    fn of(node: &str, state: &LeaderState) -> Self {
        let &LeaderState { claim, end, is_live, is_released, is_alone, .. } = state;
        let (version, node, gives_signs) = (VERSION, node.to_owned(), true);
        Self { version, node, claim, end, is_live, is_released, is_alone, gives_signs }
    }
}

/// Sends one beat, if this node leads. While NATS is away there is none: a queue of them would be
/// sent later, and be wrong by then.
pub(crate) async fn send_beat(bus: &Bus, node: &str, state: &LeaderState) {
    if state.claim > 0 && bus.is_connected() {
        let beat = serde_json::to_vec(&Beat::of(node, state)).unwrap_or_default();
        let _ = bus.publish(bus.own_subjects().beat(), beat.into()).await;
    }
}

/// Sends the beat while this node leads, and at once when it begins or stops to be live.
pub(crate) async fn run_beat(bus: Bus, node: String, mut state: watch::Receiver<LeaderState>) {
    loop {
        let now = state.borrow_and_update().clone();
        send_beat(&bus, &node, &now).await;
        // The end alone is no news: a busy leader would beat with every append.
        let news = |it: &LeaderState| (it.claim, it.is_live, it.is_released, it.is_alone);
        let changed = async { state.wait_for(|it| news(it) != news(&now)).await.is_ok() };
        if let Ok(false) = tokio::time::timeout(BEAT_EVERY, changed).await {
            return;
        }
    }
}
