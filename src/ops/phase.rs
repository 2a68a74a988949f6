//! The phase of the capture. The capture publishes it; readiness and maintenance read it.

use std::{fmt::Display, time::Instant};

use tokio::sync::watch;

/// The phase of the capture, published on a `watch` channel.
#[derive(Clone, Debug)]
pub enum Phase {
    /// Not connected.
    Connecting {
        /// The error of the last attempt, as text for operators.
        problem: Option<String>,
    },
    /// Connected and listening; reads the rounds that finished before.
    CatchingUp,
    /// Another capture node leads.
    StandingBy,
    /// Every committed round found so far is published.
    Live {
        /// The start of this phase.
        since: Instant,
    },
}

impl Phase {
    /// Publishes that the last attempt failed. Returns whether the attempt before it had another
    /// outcome: then the error is worth a line in the log.
    pub(crate) fn publish_problem(channel: &watch::Sender<Self>, error: &impl Display) -> bool {
        let problem = Some(error.to_string());
        channel.send_if_modified(|phase| {
            let repeats = matches!(phase, Self::Connecting { problem: last } if *last == problem);
            if !repeats {
                *phase = Self::Connecting { problem };
            }
            !repeats
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_new_until_it_repeats() {
        let channel = watch::Sender::new(Phase::Connecting { problem: None });
        let publish = |error| Phase::publish_problem(&channel, &error);
        assert!(publish("refused") && !publish("refused"));
        assert!(publish("timed out") && publish("refused"));
        channel.send_replace(Phase::CatchingUp);
        assert!(publish("refused"));
        let phase = channel.borrow();
        let is_refused = |problem: &Option<String>| problem.as_deref() == Some("refused");
        assert!(matches!(&*phase, Phase::Connecting { problem } if is_refused(problem)));
    }
}
