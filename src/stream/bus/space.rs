//! Within one space, transaction ids are comparable: one database on one timeline.

use serde::{Deserialize, Serialize};

/// Identifies a space of transaction ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Space {
    /// The cluster's system identifier.
    pub(crate) system: String,
    /// The cluster's timeline.
    pub(crate) timeline: i32,
    /// The database's oid.
    pub(crate) database: u32,
    /// Unix seconds of the last start over: an older copy of a database has the same three, and
    /// uses transaction ids again.
    pub(crate) generation: u64,
}

impl Space {
    /// A short name: FNV-1a over the members.
    pub(crate) fn name(&self) -> u64 {
        let Self { system, timeline, database, generation } = self;
        let text = format!("{system} {timeline} {database} {generation}");
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}
