//! Rows of the outbox as what they stand for.

use std::time::Duration;

use tokio_postgres::Row;

use super::cursor::OutboxKey;
use crate::{
    postgres::rows,
    stream::{
        round::RoundId,
        transaction::{Attachment, Finish, Xid},
    },
};

/// One row of the outbox.
#[derive(Clone, Debug)]
pub(super) struct OutboxRow {
    pub(super) key: OutboxKey,
    pub(super) before: Xid,
    pub(super) age: Duration,
    /// Whether the round's id can be sent. If not, the id of `key` is a hash and its beginning.
    pub(super) has_valid_id: bool,
}

pub(super) fn outbox_row(row: &Row) -> Result<Option<OutboxRow>, tokio_postgres::Error> {
    let Some(attachment) = row.try_get::<_, Option<i32>>("attachment")? else { return Ok(None) };
    let (xid, before) = (rows::xid(row, "xid")?, rows::xid(row, "before")?);
    let age = Duration::from_micros(row.try_get::<_, i64>("age_micros")?.max(0).cast_unsigned());
    let round = rows::round_id(row)?;
    // PostgreSQL checks ids too. Of an encoding other than UTF8 it lets some control characters pass.
    let has_valid_id = attachment > 0 && round.is_ok();
    let round = round.unwrap_or(RoundId::number(0));
    let finish = Finish { xid, attachment: Attachment(attachment), round };
    let key = OutboxKey { finish, at: row.try_get("at_micros")? };
    Ok(Some(OutboxRow { key, before, age, has_valid_id }))
}

/// A row that was recorded before the start.
pub(super) fn recent_row(row: &Row) -> Result<Option<OutboxRow>, tokio_postgres::Error> {
    let (xid, before) = (rows::xid(row, "xid")?, rows::xid(row, "before")?);
    let Ok(round) = rows::round_id(row)? else { return Ok(None) };
    let finish = Finish { xid, attachment: rows::attachment(row)?, round };
    let key = OutboxKey { finish, at: 0 };
    Ok(Some(OutboxRow { key, before, age: Duration::ZERO, has_valid_id: true }))
}

impl OutboxRow {
    pub(super) fn finish(&self) -> &Finish {
        &self.key.finish
    }
}
