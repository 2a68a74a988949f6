//! Notifications on their way from the connection to the capture: bounded, and never waited for.

use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;

use super::company::Word;
use crate::postgres::client::Messages;

/// The channel of the trigger.
pub(super) const CHANNEL: &str = "datastream_rounds";
/// The channel on which a listener makes sure that it hears, and nodes greet each other.
pub(super) const PROBE_CHANNEL: &str = "datastream_probe";

/// Messages looked at together; more notifications than the inbox keeps the payloads of.
const MESSAGES_AT_ONCE: usize = 256;
/// Payloads worth looking at one by one; when more wait, one poll finds them all sooner
/// (0.86 ms for 1,000 rounds).
const PAYLOADS_MAX: usize = 64;

/// What has arrived since the last look.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Who listens.
    node: u64,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    ended: AtomicBool,
    expected: AtomicU64,
    probed: AtomicBool,
    heard: Mutex<Heard>,
}

/// What other nodes have said since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Anything at all.
    pub(super) others: bool,
    /// That one has come, and wants to know of us.
    pub(super) greeting: bool,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Payloads as sent, in the order of their commits; empty when there were too many.
    pub(super) payloads: Vec<String>,
    /// How many notifications came, whatever they held.
    pub(super) count: u64,
}

impl Inbox {
    /// An empty one of this node.
    pub(super) fn new(node: u64) -> Self {
        Self {
            node,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            ended: AtomicBool::new(false),
            expected: AtomicU64::new(0),
            probed: AtomicBool::new(false),
            heard: Mutex::default(),
        }
    }

    /// Takes in what arrived together, so that it is looked at together.
    pub(super) fn push<'a>(&self, payloads: impl IntoIterator<Item = &'a str>) {
        {
            let mut waiting = self.waiting.lock();
            payloads.into_iter().for_each(|payload| waiting.push(payload));
        }
        self.arrived.notify_one();
    }

    /// Says which probe to listen for.
    pub(super) fn expect_probe(&self, number: u64) -> Word {
        self.expected.store(number, Ordering::Release);
        self.probed.store(false, Ordering::Release);
        Word::Probe(self.node, number)
    }

    /// Takes note of what a node says.
    pub(super) fn hear(&self, word: Word) {
        if word.node() != self.node {
            let mut heard = self.heard.lock();
            heard.others = true;
            heard.greeting |= matches!(word, Word::Greeting(_));
            self.arrived.notify_one();
        } else if word == Word::Probe(self.node, self.expected.load(Ordering::Acquire)) {
            self.probed.store(true, Ordering::Release);
        }
    }

    /// What other nodes have said since the last look.
    pub(super) fn take_heard(&self) -> Heard {
        std::mem::take(&mut *self.heard.lock())
    }

    /// Whether the expected probe has arrived.
    pub(super) fn heard_probe(&self) -> bool {
        self.probed.load(Ordering::Acquire)
    }

    /// Says that the connection is gone.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Waits until something arrived since the last look. Cancel safe.
    pub(super) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// Takes everything.
    pub(super) fn take(&self) -> Waiting {
        std::mem::take(&mut *self.waiting.lock())
    }
}

impl Waiting {
    fn push(&mut self, payload: &str) {
        self.count += 1;
        if self.count <= PAYLOADS_MAX as u64 {
            self.payloads.push(payload.to_owned());
        } else {
            self.payloads.clear();
        }
    }
}

/// Moves what the connection receives into the inbox until it ends. What the socket holds goes in
/// together: the notifications of one transaction are sent together, and order within it is judged
/// by looking at all of them.
pub(super) async fn pump(messages: Messages, inbox: Arc<Inbox>) {
    let mut messages = messages.ready_chunks(MESSAGES_AT_ONCE);
    while let Some(together) = messages.next().await {
        for error in together.iter().filter_map(|message| message.as_ref().err()) {
            tracing::debug!(%error, "the LISTEN connection broke");
        }
        let sent: Vec<_> = together.iter().flatten().filter_map(notification).collect();
        let on = |name: &'static str| sent.iter().filter(move |(channel, _)| *channel == name);
        on(PROBE_CHANNEL)
            .filter_map(|(_, text)| Word::parse(text))
            .for_each(|word| inbox.hear(word));
        inbox.push(on(CHANNEL).map(|(_, text)| *text));
        if together.iter().any(Result::is_err) {
            break;
        }
    }
    inbox.end();
}

/// The channel and the payload, of a notification.
fn notification(message: &AsyncMessage) -> Option<(&str, &str)> {
    match message {
        AsyncMessage::Notification(sent) => Some((sent.channel(), sent.payload())),
        AsyncMessage::Notice(notice) => {
            tracing::debug!(%notice, "notice of the database");
            None
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_its_payloads_are_left_to_the_poll() {
        let inbox = Inbox::new(1);
        inbox.push([""; PAYLOADS_MAX]);
        assert_eq!(inbox.take().payloads.len(), PAYLOADS_MAX);
        inbox.push([""; PAYLOADS_MAX + 1]);
        let waiting = inbox.take();
        assert_eq!((waiting.payloads.len(), waiting.count), (0, PAYLOADS_MAX as u64 + 1));
    }

    #[test]
    fn a_node_tells_its_own_words_from_those_of_others() {
        let inbox = Inbox::new(1);
        let probe = inbox.expect_probe(5);
        inbox.hear(Word::Greeting(1));
        inbox.hear(Word::Probe(1, 4));
        assert_eq!((inbox.heard_probe(), inbox.take_heard()), (false, Heard::default()));
        inbox.hear(probe);
        assert!(inbox.heard_probe());
        inbox.hear(Word::Answer(2));
        assert_eq!(inbox.take_heard(), Heard { others: true, greeting: false });
        inbox.hear(Word::Greeting(2));
        assert_eq!(inbox.take_heard(), Heard { others: true, greeting: true });
        assert_eq!(inbox.take_heard(), Heard::default());
    }
}
