//! A log that lost rounds: the next leader's claim may stand before the one of the former leader.

use std::time::Duration;

use super::{memory_log::MemoryLog, model::Viewer};
use crate::stream::bus::beat::Beat;

pub(in crate::stream::bus) fn beat(claim: u64, end: u64) -> Beat {
    Beat {
        version: 1,
        node: "a".into(),
        claim,
        end,
        is_live: true,
        is_released: false,
        is_alone: true,
        gives_signs: true,
    }
}

#[tokio::test]
async fn an_edge_follows_an_earlier_claim_once_the_former_leader_is_silent() {
    let mut viewer = Viewer::new(&MemoryLog::new());
    let claim = |viewer: &Viewer| viewer.leader.borrow().as_ref().map(|view| view.beat.claim);
    let patience = Duration::from_secs(3_600);
    viewer.edge.note_beat(beat(20, 20), patience);
    viewer.edge.note_beat(beat(10, 10), patience);
    assert_eq!(claim(&viewer), Some(20), "a former leader that was paused says nothing");
    viewer.edge.note_beat(beat(21, 21), patience);
    assert_eq!(claim(&viewer), Some(21));
    viewer.edge.note_beat(beat(10, 10), Duration::ZERO);
    assert_eq!(claim(&viewer), Some(10), "the log was lost from before the claims 20 and 21");
}
