//! Trying again while somebody else holds a lock.

use sqlx::PgConnection;

use super::{AttachError, table};
use crate::backoff::Backoff;

/// Each attempt takes the lock's timeout of two seconds, and up to a second goes by between two:
/// half a minute of trying, during which the game's own transactions get their turn.
const ATTEMPTS: u32 = 10;

/// Runs the task until no lock is in its way, at most ten times; then says who holds the table.
pub(super) async fn with<T>(
    name: &str,
    connection: &mut PgConnection,
    task: impl AsyncFn(&mut PgConnection) -> Result<T, AttachError>,
) -> Result<T, AttachError> {
    let mut backoff = Backoff::default();
    for attempt in 1..ATTEMPTS {
        match task(connection).await {
            Err(error) if error.is_contention() => {
                tracing::warn!("attempt {attempt} of {ATTEMPTS}: {error}");
                tokio::time::sleep(backoff.delay()).await;
            }
            outcome => return outcome,
        }
    }
    match task(connection).await {
        Err(error) if error.is_contention() => {
            let holders = table::holders(connection, name, true, 0.0).await?;
            if holders.is_empty() {
                return Err(error);
            }
            Err(AttachError::Held { table: name.to_owned(), holders })
        }
        outcome => outcome,
    }
}
