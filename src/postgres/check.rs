//! One line of the doctor's report.

use std::fmt;

use serde::Serialize;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// The stream does not work, or not as promised.
    Failed,
    /// Could not be looked at.
    Skipped,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Its name, of fixed values.
    pub name: &'static str,
    /// How it stands.
    pub status: Status,
    /// What was found.
    pub says: String,
    /// What to do, where something is to be done: in words, and, a line each, in commands: of a
    /// shell, or SQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    pub(crate) fn new(name: &'static str, status: Status, says: impl Into<String>) -> Self {
        Self { name, status, says: says.into(), remedy: None }
    }

    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Self {
        match self.status {
            Status::Ok | Status::Skipped => self,
            Status::Warning | Status::Failed => Self { remedy: Some(remedy.into()), ..self },
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.status {
            Status::Ok => "ok",
            Status::Warning => "WARNING",
            Status::Failed => "FAILED",
            Status::Skipped => "skipped",
        };
        write!(f, "{mark:8} {}: {}", self.name, self.says)?;
        match &self.remedy {
            Some(remedy) => {
                write!(f, "\n         to do: {}", remedy.replace('\n', "\n           "))
            }
            None => Ok(()),
        }
    }
}
