//! Reads the games if PostgreSQL cannot read the row of one.

use tokio_postgres::types::Type;

use super::{
    error::CaptureError,
    session::{CATCH_UP_WITHIN, Parameter, Session, within},
};
use crate::{
    postgres::game_parts::{GamePart, GameParts},
    stream::round::Game,
};

/// Reads them by these queries: of all ids, and of a part.
pub(super) async fn read(
    session: &Session,
    ids: &str,
    of_part: impl Fn(&GamePart) -> String,
) -> Result<Vec<Game>, CaptureError> {
    let ids = within(CATCH_UP_WITHIN, session.query(ids, &[])).await?;
    let mut parts = GameParts::of(&ids)?;
    while let Some(part) = parts.next() {
        let query = of_part(&part);
        let (numbers, texts) = part.ids();
        let parameters: [Parameter<'_>; 2] =
            [(&numbers, Type::INT8_ARRAY), (&texts, Type::TEXT_ARRAY)];
        let rows = within(CATCH_UP_WITHIN, session.query(&query, &parameters)).await;
        match rows {
            Ok(rows) => parts.take(&rows)?,
            Err(error) if error.is_of_data() => parts.split(part, &error),
            Err(error) => return Err(error),
        }
    }
    Ok(parts.games())
}
