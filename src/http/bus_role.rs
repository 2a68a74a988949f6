//! What `/readyz` and the live page say of the bus.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use crate::{
    config::NodeName,
    stream::bus::{LeaderState, LeaderView},
};

/// A leader sends a beat twice a second.
const BEAT_WITHIN: Duration = Duration::from_secs(5);

/// The role of this server.
#[derive(Clone, Debug)]
pub(crate) enum BusRole {
    /// It has no bus.
    None,
    /// It gets its rounds from the log. The live page shows its name.
    Edge(NodeName, watch::Receiver<Option<LeaderView>>),
    /// It appends to the log, or stands by.
    Capture(watch::Receiver<LeaderState>),
}

/// A part of the body of `/readyz`, for everybody: no name, no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct BusState {
    role: &'static str,
    /// Whether this capture node leads, or an edge has a leader.
    leader: bool,
    /// Of the leader, as far as this server knows.
    database: &'static str,
}

impl BusRole {
    pub(super) fn state(&self) -> Option<BusState> {
        let known = |is_live| if is_live { "connected" } else { "unavailable" };
        Some(match self {
            Self::None => return None,
            Self::Edge(_, leader) => {
                let view = leader.borrow().clone();
                let view = view.filter(|view| view.received.elapsed() < BEAT_WITHIN);
                let database = view.as_ref().map_or("unknown", |view| known(view.beat.is_live));
                BusState { role: "edge", leader: view.is_some(), database }
            }
            Self::Capture(state) => {
                let LeaderState { claim, is_live, .. } = *state.borrow();
                let database = if claim > 0 { known(is_live) } else { "unknown" };
                BusState { role: "capture", leader: claim > 0 && is_live, database }
            }
        })
    }

    /// The name of this server, if it is one of several edges.
    pub(super) fn edge(&self) -> Option<&NodeName> {
        match self {
            Self::Edge(node, _) => Some(node),
            Self::None | Self::Capture(_) => None,
        }
    }

    /// Why a server of this role is not ready.
    pub(super) fn problem(&self, has_failed: bool) -> &'static str {
        match (self, has_failed) {
            (Self::None | Self::Capture(_), false) => "connecting to the database",
            (Self::None, true) => "cannot connect to the database: see the log of the server",
            (Self::Capture(_), true) => {
                "the database or the bus does not answer: see the log of the server"
            }
            (Self::Edge(..), false) => "connecting to the bus",
            (Self::Edge(..), true) => {
                "cannot follow the log on the bus, or no capture node sends a beat: see the log of the server"
            }
        }
    }
}
