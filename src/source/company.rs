//! Other nodes on the same database. They may show rounds of overlapping transactions in another
//! order, so a resume point that one of them may have given is answered with room for that (see the
//! hub's I5).
//!
//! A node greets on [`super::inbox::PROBE_CHANNEL`] before it reads anything, and who hears a
//! greeting answers: so each knows of the other before it can have given anybody a round. That a
//! node has left is seen by its session, looked for every few seconds while there is company.

use std::time::{Duration, Instant};

use super::{Capture, CaptureError, listener::Listening, session::Session};
use crate::{ops::telemetry::metrics::Metrics, stream::hub::Publisher};

/// How soon it is noticed that the others have left.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is said on the channel, each with who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// "Here I am; who else is?"
    Greeting(u64),
    /// "I am."
    Answer(u64),
    /// From a node to itself, by another way: does it hear?
    Probe(u64, u64),
}

impl Word {
    /// As it is sent.
    pub(super) fn text(self) -> String {
        match self {
            Self::Greeting(node) => format!("greeting {node}"),
            Self::Answer(node) => format!("answer {node}"),
            Self::Probe(node, number) => format!("probe {node} {number}"),
        }
    }

    /// `None` for what no node says: anybody may send on the channel.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let kind = parts.next()?;
        let mut number = || parts.next()?.parse().ok();
        match kind {
            "greeting" => Some(Self::Greeting(number()?)),
            "answer" => Some(Self::Answer(number()?)),
            "probe" => Some(Self::Probe(number()?, number()?)),
            _ => None,
        }
    }

    /// Who says it.
    pub(super) fn node(self) -> u64 {
        match self {
            Self::Greeting(node) | Self::Answer(node) | Self::Probe(node, _) => node,
        }
    }
}

/// Whether this node is alone.
#[derive(Debug)]
pub(super) struct Company {
    /// Names this process among the nodes.
    pub(super) node: u64,
    /// Another node was heard: when it was last looked whether it is still there.
    heard: Option<Instant>,
}

impl Company {
    pub(super) fn new() -> Self {
        Self { node: fastrand::u64(..), heard: None }
    }

    fn is_due(&self) -> bool {
        self.heard.is_some_and(|last| last.elapsed() > LOOK_EVERY)
    }
}

/// Whether other sessions stream this database. Behind a pooler nobody can tell.
pub(super) async fn others(session: &Session) -> Result<bool, CaptureError> {
    if !session.is_own() {
        return Ok(true);
    }
    let row = session.query_one(include_str!("../../sql/company.sql"), &[]).await?;
    Ok(row.try_get("others")?)
}

/// Tells whether there may be other nodes from now on.
pub(super) fn share(publisher: &Publisher, metrics: &Metrics, shared: bool) {
    metrics.other_nodes.set(i64::from(shared));
    publisher.share(shared);
}

impl Capture {
    /// Answers greetings, and finds out whether the other nodes have left. Where none has answered,
    /// there is none: one whose own link is down greets before it goes on.
    pub(super) async fn mind_company(&mut self, listening: &Listening) -> Result<(), CaptureError> {
        self.greet(listening).await?;
        if self.company.is_due() {
            self.look_for_others(listening).await?;
        }
        Ok(())
    }

    /// Answers greetings, and notes who has answered ours.
    pub(super) async fn greet(&mut self, listening: &Listening) -> Result<(), CaptureError> {
        let heard = listening.inbox().take_heard();
        // Behind a pooler nobody is heard.
        let others = heard.others || !listening.is_own();
        if others && self.company.heard.is_none() {
            tracing::info!("another node may stream the same database");
            self.company.heard = Some(Instant::now());
            share(&self.parts.publisher, &self.parts.metrics, true);
        }
        if heard.greeting {
            listening.say(Word::Answer(self.company.node)).await?;
        }
        Ok(())
    }

    async fn look_for_others(&mut self, listening: &Listening) -> Result<(), CaptureError> {
        self.company.heard = Some(Instant::now());
        if !listening.others().await? {
            // What others had before they left is on our stream after this.
            self.poll(listening).await?;
            self.company.heard = None;
            share(&self.parts.publisher, &self.parts.metrics, false);
            tracing::debug!("no other node streams this database");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Word;

    #[test]
    fn a_word_is_understood_as_it_was_said_and_nothing_else_is() {
        for word in [Word::Greeting(7), Word::Answer(u64::MAX), Word::Probe(7, 8)] {
            assert_eq!(Word::parse(&word.text()), Some(word));
        }
        for text in ["", "greeting", "greeting x", "probe 7", "answer -1", "7", "Greeting 7"] {
            assert_eq!(Word::parse(text), None, "{text:?}");
        }
    }
}
