//! Whether the server may open the connections that it needs, asked at its start.

use super::{
    error::CaptureError,
    session::{ANSWER_WITHIN, Session, within},
};
use crate::postgres::sql::sql;

/// Logs each limit of role, database and server that is too low. Without that, the first sign is a
/// client that gets 503.
pub(super) async fn warn(session: &Session) -> Result<(), CaptureError> {
    let rows = within(ANSWER_WITHIN, session.query(sql!("doctor/connections"), &[])).await?;
    for row in rows {
        let (status, says): (&str, &str) = (row.try_get("status")?, row.try_get("says")?);
        let remedy: String = row.try_get::<_, &str>("remedy")?.replace('\n', " ");
        if status != "ok" {
            tracing::warn!("{says}. To do: {remedy}");
        }
    }
    Ok(())
}
