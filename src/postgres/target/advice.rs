//! Why a connection failed, in one line that ends with a remedy.

use std::fmt;

use super::PgTarget;
use crate::postgres::sqlstate::{BAD_PASSWORD, LOCK_NOT_AVAILABLE, NO_HBA_ENTRY, POOLER_REFUSED};

/// A failed connection. The errors of both client libraries become this one.
#[derive(Debug, thiserror::Error)]
pub struct ConnectError {
    target: String,
    code: Option<String>,
    reason: String,
    permanent: bool,
}

impl ConnectError {
    /// From the message of the server (with PostgreSQL's error code) or of the system.
    pub fn new(target: &PgTarget, code: Option<&str>, reason: impl Into<String>) -> Self {
        // Class 28: invalid authorization; 3D000: no such database; 42501: no right to connect.
        let permanent =
            code.is_some_and(|code| code.starts_with("28") || matches!(code, "3D000" | "42501"));
        let (target, code) = (target.to_string(), code.map(str::to_owned));
        Self { target, code, reason: reason.into(), permanent }
    }

    /// The server does not answer, or the network drops packets.
    pub fn timed_out(target: &PgTarget) -> Self {
        let after = humantime::format_duration(target.connect_timeout);
        Self::new(target, None, format!("no answer within {after} (connect_timeout)"))
    }

    /// The same error, marked as one that a retry cannot fix.
    pub fn permanent(self) -> Self {
        Self { permanent: true, ..self }
    }

    /// Whether a retry cannot fix it: a wrong role, password, database or certificate file.
    pub fn is_final(&self) -> bool {
        self.permanent
    }

    /// PostgreSQL's error code, if the error is PostgreSQL's.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}: {}", self.target, self.reason)?;
        match self.code().map_or_else(|| certificate_advice(&self.reason), advice) {
            Some(advice) => write!(f, ". {advice}"),
            None => Ok(()),
        }
    }
}

/// The remedy for one of PostgreSQL's error codes.
pub(crate) fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        BAD_PASSWORD => "Set the password in the URL, in PGPASSWORD or in ~/.pgpass.",
        NO_HBA_ENTRY => "Create the role, or allow it in pg_hba.conf for this address.",
        "3D000" => "Create it with createdb, or name another database in the URL.",
        "42501" => "Use a role with this right, or grant it.",
        "42602" => {
            "Write a table as in SQL: schema.table, with double quotes if its name needs them."
        }
        "42P01" | "3F000" => {
            "Check the names. If the schema datastream is missing, run: datastream migrate"
        }
        LOCK_NOT_AVAILABLE => "Another session has a lock on it. Try again later.",
        "53300" => "Raise max_connections, or close unused sessions.",
        "57P03" => "Try again when the server has started.",
        POOLER_REFUSED => {
            "If a pooler is in between, set DATASTREAM_LISTEN_URL to the direct URL of the database."
        }
        _ => return None,
    })
}

/// The remedy for certificates that libpq accepts and rustls refuses.
fn certificate_advice(reason: &str) -> Option<&'static str> {
    if reason.contains("CaUsedAsEndEntity") {
        return Some(
            "The server's certificate is also its own authority. Have an authority sign it.",
        );
    }
    let unknown = reason.contains("UnknownIssuer");
    unknown.then_some("Name the authority's certificate with sslrootcert=FILE.")
}
