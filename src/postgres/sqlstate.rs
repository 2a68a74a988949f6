//! Errors of PostgreSQL, by their code ("PostgreSQL Error Codes").

/// `protocol_violation`, which PgBouncer returns for settings that it does not pass on.
pub(crate) const POOLER_REFUSED: &str = "08P01";
/// `invalid_authorization_specification`: pg_hba.conf has no entry for encrypted connections.
pub(crate) const NO_HBA_ENTRY: &str = "28000";
/// `invalid_password`: the password may have changed since the connection's options were made.
pub(crate) const BAD_PASSWORD: &str = "28P01";
/// `lock_not_available`: another session held a lock for longer than the lock timeout.
pub(crate) const LOCK_NOT_AVAILABLE: &str = "55P03";
/// `deadlock_detected`.
pub(crate) const DEADLOCK: &str = "40P01";
/// `query_canceled`: by the time limit of the session.
pub(crate) const QUERY_CANCELED: &str = "57014";

/// Data exceptions (22), expressions that raise (P0), program limits (54), damaged storage (XX), out of
/// memory.
const OF_DATA: [&str; 5] = ["22", "P0", "54", "XX", "53200"];

/// Whether the content of a row may have made a query fail, so that halving finds the row.
pub(crate) fn is_of_data(code: &str) -> bool {
    OF_DATA.iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_to_blame_for_its_content_but_not_for_a_lock_or_a_right() {
        for code in ["22012", "P0001", "54000", "XX001", "53200"] {
            assert!(is_of_data(code), "{code}");
        }
        for code in ["53100", "53300", LOCK_NOT_AVAILABLE, "42501", "08006", QUERY_CANCELED] {
            assert!(!is_of_data(code), "{code}");
        }
    }
}
