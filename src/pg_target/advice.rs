//! What to do about the errors that a first contact with a database usually ends in.

/// Advice for one of PostgreSQL's error codes; both client libraries report these.
pub fn advice(sqlstate: &str) -> Option<&'static str> {
    Some(match sqlstate {
        "28P01" => "set the password in the URL, in PGPASSWORD or in ~/.pgpass",
        "28000" => "the role does not exist, or pg_hba.conf does not let it in from here",
        "3D000" => "create it with createdb, or name another database in the URL",
        "42501" => "the role lacks a right; use the owner's role, or have it granted",
        "53300" => "raise max_connections, or close sessions that are not needed",
        "57P03" => "the server is starting up or shutting down; try again",
        "08P01" => "a pooler in between? set DATASTREAM_LISTEN_URL to the server itself",
        _ => return None,
    })
}

/// The same as a clause to end a message with; empty where there is none.
pub fn hint(sqlstate: Option<&str>) -> String {
    sqlstate.and_then(advice).map(|advice| format!(" ({advice})")).unwrap_or_default()
}
