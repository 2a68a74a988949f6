//! Decodes rows of the queries in `sql/`, from either client library.

use std::{collections::HashSet, sync::Arc};

use crate::{
    ops::telemetry::metrics::Skipped,
    stream::{
        round::{FinishedAt, Game, GameId, InvalidId, Round, RoundId, UnixMillis},
        stored_round::StoredRound,
        transaction::{Attachment, Finish, Xid},
    },
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

    /// A text that may be null.
    fn maybe_text(&self, column: &str) -> Result<Option<&str>, Self::Error>;

    /// An integer that is not null.
    fn integer(&self, column: &str) -> Result<i32, Self::Error>;

    /// A boolean that may be null.
    fn flag(&self, column: &str) -> Result<Option<bool>, Self::Error>;
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

    fn maybe_text(&self, column: &str) -> Result<Option<&str>, Self::Error> {
        self.try_get(column)
    }

    fn integer(&self, column: &str) -> Result<i32, Self::Error> {
        self.try_get(column)
    }

    fn flag(&self, column: &str) -> Result<Option<bool>, Self::Error> {
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

    fn maybe_text(&self, column: &str) -> Result<Option<&str>, Self::Error> {
        sqlx::Row::try_get(self, column)
    }

    fn integer(&self, column: &str) -> Result<i32, Self::Error> {
        sqlx::Row::try_get(self, column)
    }

    fn flag(&self, column: &str) -> Result<Option<bool>, Self::Error> {
        sqlx::Row::try_get(self, column)
    }
}

/// A round, or why it cannot be sent.
pub(crate) type DecodedRound = Result<Round, Unsendable>;

/// Why a round that was read cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsendable {
    /// RFC 3339 cannot print its `finished_at`.
    OutOfRange,
    /// Its id, or its game's, is empty, too long or has control characters.
    BadId,
    /// Its extras are longer than `DATASTREAM_MAX_ROUND`.
    TooLarge,
    /// Its game has no slug or no type that UTF-8 can hold.
    Unreadable,
}

impl Unsendable {
    /// The label of the metric.
    pub(crate) fn reason(self) -> Skipped {
        match self {
            Self::OutOfRange => Skipped::out_of_range,
            Self::BadId => Skipped::bad_id,
            Self::TooLarge => Skipped::too_large,
            Self::Unreadable => Skipped::unreadable,
        }
    }
}

/// A game's row. `None` if its id cannot be sent.
pub(crate) fn game<R: Columns>(row: &R) -> Result<Option<Game>, R::Error> {
    let Ok(id) = game_id(row)? else { return Ok(None) };
    let (slug, name) = (row.text("slug")?.into(), row.text("name")?.into());
    Ok(Some(Game { id, slug, name, kind: row.text("type")?.into() }))
}

/// A round's id: a string in `round_key`, or else the number in `round_id`. The outbox has an empty
/// `round_key` for a number, the views have a null.
pub(crate) fn round_id<R: Columns>(row: &R) -> Result<Result<RoundId, InvalidId>, R::Error> {
    match row.maybe_text("round_key")? {
        None | Some("") => Ok(Ok(RoundId::number(row.bigint("round_id")?))),
        Some(key) => Ok(RoundId::text(key)),
    }
}

/// A game's id: a string in `game_key`, or else the number in `game_id`.
pub(crate) fn game_id<R: Columns>(row: &R) -> Result<Result<GameId, InvalidId>, R::Error> {
    match row.maybe_text("game_key")? {
        None => Ok(Ok(GameId::number(row.bigint("game_id")?))),
        Some(key) => Ok(GameId::text(key)),
    }
}

/// The attached table of a row.
pub(crate) fn attachment<R: Columns>(row: &R) -> Result<Attachment, R::Error> {
    row.integer("attachment").map(Attachment)
}

/// The transaction id in this column.
pub(crate) fn xid<R: Columns>(row: &R, column: &str) -> Result<Xid, R::Error> {
    row.bigint(column).map(|id| Xid(id.cast_unsigned()))
}

/// A round without its content, or why it cannot be sent. Equal types share one text.
pub(crate) fn stored<R: Columns>(
    row: &R,
    kinds: &mut HashSet<Arc<str>>,
) -> Result<Result<StoredRound, Unsendable>, R::Error> {
    let (xid, before) = (xid(row, "xid")?, xid(row, "before")?);
    let (Ok(round), Ok(game)) = (round_id(row)?, game_id(row)?) else {
        return Ok(Err(Unsendable::BadId));
    };
    let micros = row.number("finished_micros")?;
    if micros.and_then(FinishedAt::from_micros).is_none() {
        return Ok(Err(Unsendable::OutOfRange));
    }
    let Some(kind) = row.maybe_text("game_type")? else { return Ok(Err(Unsendable::Unreadable)) };
    let kind = kinds.get(kind).cloned().unwrap_or_else(|| {
        let kind = Arc::<str>::from(kind);
        kinds.insert(Arc::clone(&kind));
        kind
    });
    let finish = Finish { xid, attachment: attachment(row)?, round };
    let extras_bytes = usize::try_from(row.bigint("extras_bytes")?).unwrap_or(0);
    Ok(Ok(StoredRound { finish, before, game: (game, kind), extras_bytes }))
}

/// An outbox row that has no round to send, and the reason. `sql/skipped.sql` has the columns.
pub(crate) fn skipped_row<R: Columns>(row: &R) -> Result<(Skipped, Attachment, RoundId), R::Error> {
    let attachment = attachment(row)?;
    let id = round_id(row)?.unwrap_or(RoundId::number(0));
    let is_out_of_range = row.flag("is_out_of_range")? == Some(true);
    let reason = match row.flag("is_finished")? {
        _ if attachment.0 < 0 => Skipped::bad_id,
        _ if is_out_of_range => Skipped::out_of_range,
        None => Skipped::deleted,
        Some(false) => Skipped::unfinished,
        // It has no game.
        Some(true) => Skipped::unreadable,
    };
    Ok((reason, attachment, id))
}

/// A round's row.
pub(crate) fn round<R: Columns>(row: &R, timestamp: UnixMillis) -> Result<DecodedRound, R::Error> {
    let (Ok(round_id), Ok(game_id)) = (round_id(row)?, game_id(row)?) else {
        return Ok(Err(Unsendable::BadId));
    };
    let micros = row.number("finished_micros")?;
    let Some(finished_at) = micros.and_then(FinishedAt::from_micros) else {
        return Ok(Err(Unsendable::OutOfRange));
    };
    let game = row.maybe_text("game_slug")?.zip(row.maybe_text("game_type")?);
    let Some((slug, kind)) = game else { return Ok(Err(Unsendable::Unreadable)) };
    let Some(extras) = row.maybe_text("extras")? else { return Ok(Err(Unsendable::TooLarge)) };
    Ok(Ok(Round {
        round_id,
        game_id,
        game_slug: slug.into(),
        game_type: kind.into(),
        finished_at,
        extras: extras.into(),
        timestamp,
    }))
}
