//! Identifiers of a transaction of the database and of one finish of a round.

use super::round::RoundId;

/// A PostgreSQL transaction id of 64 bits (`xid8`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u64);

/// Identifies one finish of a round: the primary key of the outbox.
pub(crate) type Finish = (Xid, RoundId);
