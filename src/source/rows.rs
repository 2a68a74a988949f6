//! Rows of the queries in `sql/` as what they stand for.

use std::time::Duration;

use tokio_postgres::Row;

use super::cursor::Recorded;
use crate::stream::{
    hub::{Captured, Finish, Xid},
    round::{FinishedAt, Game, GameId, Round, RoundId, UnixMillis},
};

/// One row of the outbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutboxRow {
    pub(super) recorded: Recorded,
    pub(super) before: Xid,
    pub(super) age: Duration,
}

/// A row of the view: a round, or one that cannot be written on the wire.
pub(super) type Read = Result<Round, RoundId>;

pub(super) fn outbox_row(row: &Row) -> Result<Option<OutboxRow>, tokio_postgres::Error> {
    let Some(round_id) = row.try_get::<_, Option<i64>>("round_id")? else { return Ok(None) };
    let (xid, before) = commit(row)?;
    let age = Duration::from_micros(row.try_get::<_, i64>("age_micros")?.max(0).cast_unsigned());
    let recorded = Recorded { finish: (xid, RoundId(round_id)), at: row.try_get("at_micros")? };
    Ok(Some(OutboxRow { recorded, before, age }))
}

impl OutboxRow {
    pub(super) fn finish(&self) -> Finish {
        self.recorded.finish
    }
}

fn commit(row: &Row) -> Result<(Xid, Xid), tokio_postgres::Error> {
    let number = |name| row.try_get::<_, i64>(name).map(|id| Xid(id.cast_unsigned()));
    Ok((number("xid")?, number("before")?))
}

pub(super) fn captured(
    row: &Row,
    now: UnixMillis,
) -> Result<Option<Captured>, tokio_postgres::Error> {
    let (xid, before) = commit(row)?;
    Ok(round(row, now)?.ok().map(|round| Captured { round, xid, before, recorded: None }))
}

pub(super) fn round(row: &Row, timestamp: UnixMillis) -> Result<Read, tokio_postgres::Error> {
    let round_id = RoundId(row.try_get("round_id")?);
    let micros: Option<i64> = row.try_get("finished_micros")?;
    let Some(finished_at) = micros.and_then(FinishedAt::from_micros) else {
        return Ok(Err(round_id));
    };
    Ok(Ok(Round {
        round_id,
        game_id: GameId(row.try_get("game_id")?),
        game_slug: row.try_get::<_, &str>("game_slug")?.into(),
        game_type: row.try_get::<_, &str>("game_type")?.into(),
        finished_at,
        extras: row.try_get::<_, &str>("extras")?.into(),
        timestamp,
    }))
}

pub(super) fn game(row: &Row) -> Result<Game, tokio_postgres::Error> {
    Ok(Game {
        id: GameId(row.try_get("id")?),
        slug: row.try_get::<_, &str>("slug")?.into(),
        name: row.try_get::<_, &str>("name")?.into(),
        kind: row.try_get::<_, &str>("type")?.into(),
    })
}
