//! Decodes rows of the queries in `sql/`, from either client library.

use crate::stream::{
    hub::Captured,
    round::{FinishedAt, Game, GameId, Round, RoundId, UnixMillis},
    transaction::{Attachment, Xid},
};

/// A row of either library. Columns are read by name.
pub(crate) trait Columns {
    /// Why a column cannot be read.
    type Error;

    /// A bigint that may be null.
    fn number(&self, column: &str) -> Result<Option<i64>, Self::Error>;

    /// A bigint that is not null.
    fn bigint(&self, column: &str) -> Result<i64, Self::Error>;

    /// A text that is not null.
    fn text(&self, column: &str) -> Result<&str, Self::Error>;
}

impl Columns for tokio_postgres::Row {
    type Error = tokio_postgres::Error;

    fn number(&self, column: &str) -> Result<Option<i64>, Self::Error> {
        self.try_get(column)
    }

    fn bigint(&self, column: &str) -> Result<i64, Self::Error> {
        self.try_get(column)
    }

    fn text(&self, column: &str) -> Result<&str, Self::Error> {
        self.try_get(column)
    }
}

impl Columns for sqlx::postgres::PgRow {
    type Error = sqlx::Error;

    fn number(&self, column: &str) -> Result<Option<i64>, Self::Error> {
        sqlx::Row::try_get(self, column)
    }

    fn bigint(&self, column: &str) -> Result<i64, Self::Error> {
        sqlx::Row::try_get(self, column)
    }

    fn text(&self, column: &str) -> Result<&str, Self::Error> {
        sqlx::Row::try_get(self, column)
    }
}

/// A round, or the id of one whose `finished_at` RFC 3339 cannot print.
pub(crate) type DecodedRound = Result<Round, RoundId>;

/// A game's row.
pub(crate) fn game<R: Columns>(row: &R) -> Result<Game, R::Error> {
    Ok(Game {
        id: GameId::number(row.bigint("id")?),
        slug: row.text("slug")?.into(),
        name: row.text("name")?.into(),
        kind: row.text("type")?.into(),
    })
}

/// The transaction id in this column.
pub(crate) fn xid<R: Columns>(row: &R, column: &str) -> Result<Xid, R::Error> {
    row.bigint(column).map(|id| Xid(id.cast_unsigned()))
}

/// A round with the transaction that finished it. `None` for a round that cannot be sent.
pub(crate) fn captured<R: Columns>(
    row: &R,
    timestamp: UnixMillis,
) -> Result<Option<Captured>, R::Error> {
    let (xid, before) = (xid(row, "xid")?, xid(row, "before")?);
    let round = round(row, timestamp)?.ok();
    Ok(round.map(|round| {
        let attachment = Attachment::default();
        Captured { round, xid, attachment, before, poll: 0, recorded: None }
    }))
}

/// A round's row.
pub(crate) fn round<R: Columns>(row: &R, timestamp: UnixMillis) -> Result<DecodedRound, R::Error> {
    let round_id = RoundId::number(row.bigint("round_id")?);
    let micros = row.number("finished_micros")?;
    let Some(finished_at) = micros.and_then(FinishedAt::from_micros) else {
        return Ok(Err(round_id));
    };
    Ok(Ok(Round {
        round_id,
        game_id: GameId::number(row.bigint("game_id")?),
        game_slug: row.text("game_slug")?.into(),
        game_type: row.text("game_type")?.into(),
        finished_at,
        extras: row.text("extras")?.into(),
        timestamp,
    }))
}
