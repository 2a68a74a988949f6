//! A round on its way into the hub.

use std::time::Instant;

use crate::stream::{
    round::Round,
    transaction::{Attachment, Finish, Xid},
};

/// A round with the transaction that finished it.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The round.
    pub round: Round,
    /// The transaction that finished it.
    pub xid: Xid,
    /// The table of the round.
    pub attachment: Attachment,
    /// When its outbox row was written, in microseconds since the epoch; `None` without a row.
    pub at: Option<i64>,
    /// The oldest transaction that was running when the trigger recorded the round.
    pub before: Xid,
    /// The number of the poll that found it, counted by this process; 0 if the round is from before
    /// its start. Two rounds with equal numbers may have committed in either order.
    pub poll: u64,
    /// When it was recorded, by this machine's clock; `None` if the round is from before the start.
    pub recorded: Option<Instant>,
}

impl Captured {
    /// A round without an outbox row, which retention deletes.
    pub(crate) fn from_table(round: Round) -> Self {
        let (xid, attachment) = (Xid(0), Attachment::default());
        Self { round, xid, attachment, before: xid, poll: 0, at: None, recorded: None }
    }

    /// The key of the round's outbox row.
    pub(crate) fn finish(&self) -> Finish {
        let (xid, attachment) = (self.xid, self.attachment);
        Finish { xid, attachment, round: self.round.round_id.clone() }
    }
}
