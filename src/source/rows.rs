//! Rows of the outbox as what they stand for.

use std::time::Duration;

use tokio_postgres::Row;

use super::cursor::OutboxKey;
use crate::{
    postgres::rows::xid,
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
}

pub(super) fn outbox_row(row: &Row) -> Result<Option<OutboxRow>, tokio_postgres::Error> {
    let Some(round_id) = row.try_get::<_, Option<i64>>("round_id")? else { return Ok(None) };
    let (xid, before) = (xid(row, "xid")?, xid(row, "before")?);
    let age = Duration::from_micros(row.try_get::<_, i64>("age_micros")?.max(0).cast_unsigned());
    let (attachment, round) = (Attachment::default(), RoundId::number(round_id));
    let finish = Finish { xid, attachment, round };
    let key = OutboxKey { finish, at: row.try_get("at_micros")? };
    Ok(Some(OutboxRow { key, before, age }))
}

impl OutboxRow {
    pub(super) fn finish(&self) -> &Finish {
        &self.key.finish
    }
}
