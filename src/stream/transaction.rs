//! Identifiers of a transaction of the database and of one finish of a round.

use super::round::RoundId;

/// A PostgreSQL transaction id of 64 bits (`xid8`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u64);

/// The number of an attached table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attachment(pub i32);

impl Attachment {
    /// Any table, in the name of a round: ids are unique over all tables. No table has this number.
    pub(crate) const ANY: Self = Self(i32::MAX);
}

/// Identifies one finish of a round: the primary key of the outbox. The order of the fields is the
/// order of its pages, so rounds of one transaction come by attached table, then by id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finish {
    /// The transaction that finished the round.
    pub xid: Xid,
    /// The table of the round.
    pub attachment: Attachment,
    /// The round.
    pub round: RoundId,
}

/// Names a round within the database.
pub(crate) type RoundName = (Attachment, RoundId);

impl Finish {
    /// The round that finished.
    pub(crate) fn name(&self) -> RoundName {
        (self.attachment, self.round.clone())
    }
}
