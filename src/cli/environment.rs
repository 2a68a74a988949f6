//! The environment variables, and which of them the file `.env` has added.

use std::{collections::HashSet, env, ffi::OsString};

use super::env_file::{self, EnvFile};

/// The variables, once `.env` has been read.
#[derive(Debug)]
pub struct Environment {
    /// The names that were set before.
    names: HashSet<OsString>,
    pub(super) file: EnvFile,
}

impl Environment {
    /// Reads `.env` into the environment. Call it while the process has one thread.
    pub fn load() -> Self {
        let names = env::vars_os().map(|(name, _)| name).collect();
        Self { names, file: env_file::load() }
    }

    /// Without a file.
    pub fn without_file() -> Self {
        let names = env::vars_os().map(|(name, _)| name).collect();
        Self { names, file: EnvFile::default() }
    }

    /// Whether a variable that is set comes from `.env`.
    pub(super) fn is_from_file(&self, name: &str) -> bool {
        !self.names.contains(&OsString::from(name))
    }
}
