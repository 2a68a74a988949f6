//! Why a database cannot be reached, in one line, with what to do about it.

use std::fmt;

use super::PgTarget;

/// A connection that could not be made. Both client libraries' errors become this one.
#[derive(Debug, thiserror::Error)]
pub struct ConnectError {
    target: String,
    code: Option<String>,
    reason: String,
    permanent: bool,
}

impl ConnectError {
    /// From what the server (with PostgreSQL's error code) or the system said.
    pub fn new(target: &PgTarget, code: Option<&str>, reason: impl Into<String>) -> Self {
        // Class 28: invalid authorization; 3D000: no such database; 42501: no right to connect.
        let permanent =
            code.is_some_and(|code| code.starts_with("28") || matches!(code, "3D000" | "42501"));
        let (target, code) = (target.to_string(), code.map(str::to_owned));
        Self { target, code, reason: reason.into(), permanent }
    }

    /// The server took the connection and was silent, or packets are dropped on the way.
    pub fn timed_out(target: &PgTarget) -> Self {
        let after = humantime::format_duration(target.connect_timeout);
        Self::new(target, None, format!("no answer within {after} (connect_timeout)"))
    }

    /// The same, of a kind that waiting does not mend.
    pub fn permanent(self) -> Self {
        Self { permanent: true, ..self }
    }

    /// Whether waiting cannot mend it: a wrong role, password, database or certificate file.
    pub fn is_final(&self) -> bool {
        self.permanent
    }

    /// PostgreSQL's error code, if it was PostgreSQL that refused.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}: {}", self.target, self.reason)?;
        match self.code().map_or_else(|| certificate_advice(&self.reason), advice) {
            Some(advice) => write!(f, " ({advice})"),
            None => Ok(()),
        }
    }
}

/// Advice for one of PostgreSQL's error codes.
pub(crate) fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "28P01" => "set the password in the URL, in PGPASSWORD or in ~/.pgpass",
        "28000" => "the role does not exist, or pg_hba.conf does not let it in from here",
        "3D000" => "create it with createdb, or name another database in the URL",
        "42501" => "use a role that may, or grant it the right",
        "42602" => "write a table as in SQL: schema.table, quoted where it must be",
        "42P01" | "3F000" => {
            "look at the names, written as in SQL; where our schema is missing, run: datastream migrate"
        }
        "55P03" => "somebody else holds a lock on it; try again when that is done",
        "53300" => "raise max_connections, or close sessions that are not needed",
        "57P03" => "try again once it is up",
        "08P01" => "a pooler in between? set DATASTREAM_LISTEN_URL to the server itself",
        _ => return None,
    })
}

/// Advice for the certificates that libpq takes and rustls, by its names for them, does not.
fn certificate_advice(reason: &str) -> Option<&'static str> {
    if reason.contains("CaUsedAsEndEntity") {
        return Some("the server's certificate is its own authority: have it signed by another");
    }
    let unknown = reason.contains("UnknownIssuer");
    unknown.then_some("name the authority's certificate with sslrootcert=FILE")
}
