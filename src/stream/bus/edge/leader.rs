//! What an edge knows of the leader.

use std::time::{Duration, Instant};

use super::Edge;
use crate::stream::bus::{LeaderView, beat::Beat, log::Log};

impl<L: Log> Edge<L> {
    /// Takes a beat. One of a former leader, which was paused, says nothing.
    pub(in crate::stream::bus) fn note_beat(&mut self, beat: Beat, patience: Duration) {
        let is_former = self
            .leader
            .as_ref()
            .is_some_and(|(last, at)| beat.claim < last.claim && at.elapsed() < patience);
        if is_former {
            return;
        }
        if beat.end > self.place.last {
            self.missing_since.get_or_insert_with(Instant::now);
        }
        // Leaders of earlier versions say it in no mark. A beat of a leader before the last one that was
        // read says nothing of what was lost since.
        if beat.is_live && self.is_rewriting && self.term > 0 && beat.claim >= self.term {
            self.whole_at.get_or_insert(beat.end);
            self.end_rewriting();
        }
        if beat.is_live && !self.is_rewriting {
            self.settings.publisher.share(!beat.is_alone);
        }
        let received = Instant::now();
        self.settings.leader.send_replace(Some(LeaderView { beat: beat.clone(), received }));
        self.leader = Some((beat, received));
    }
}
