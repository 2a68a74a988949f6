//! A finding of `datastream doctor`.

use std::fmt;

use serde::Serialize;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No problem.
    Ok,
    /// The stream works, but needs attention.
    Warning,
    /// The stream does not work, or does not keep its guarantees.
    Failed,
    /// The check could not run.
    Skipped,
}

/// A check and its result.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The name, from a fixed set.
    pub name: &'static str,
    /// The result.
    pub status: Status,
    /// The finding.
    pub says: String,
    /// The remedy, if there is a problem: an imperative, then one command a line (shell or SQL).
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
