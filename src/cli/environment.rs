//! The names of the environment variables, and which of them the file `.env` has added.

use std::{
    collections::{BTreeSet, HashSet},
    env,
    ffi::OsString,
};

use clap::{Command, CommandFactory};

use super::Cli;

/// The variables that were set before `.env` was read.
#[derive(Debug)]
pub struct Environment {
    names: HashSet<OsString>,
}

impl Environment {
    /// Call it before [`super::load_env_file`].
    pub fn before_env_file() -> Self {
        Self { names: env::vars_os().map(|(name, _)| name).collect() }
    }

    /// Whether a variable that is set comes from `.env`.
    pub(super) fn is_from_file(&self, name: &str) -> bool {
        !self.names.contains(&OsString::from(name))
    }

    /// Logs the variables that look like settings but are none: a typing error would otherwise
    /// leave the default in place without a word.
    pub(super) fn warn_of_unknown_variables(&self) {
        let known = known_variables();
        let unknown = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let unknown: BTreeSet<_> = unknown
            .filter(|name| name.starts_with("DATASTREAM_") && !known.contains(name))
            .map(|name| hint(&name, &known))
            .collect();
        if !unknown.is_empty() {
            // One line: logs limit how often one message is repeated.
            let hints = unknown.into_iter().collect::<Vec<_>>().join("; ");
            tracing::warn!("ignoring unknown variables: {hints}");
        }
    }
}

/// The variables of all commands.
fn known_variables() -> BTreeSet<String> {
    let cli = Cli::command();
    let commands = cli.get_subcommands().chain([&cli]);
    let args = commands.flat_map(Command::get_arguments);
    args.filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned())).collect()
}

fn hint(name: &str, known: &BTreeSet<String>) -> String {
    let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(name, known));
    match nearest {
        Some(nearest) => format!("{name} (the nearest known name is {nearest})"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_the_nearest_variable() {
        let known = known_variables();
        for (name, nearest) in [
            ("DATASTREAM_HISTROY", "DATASTREAM_HISTORY"),
            ("DATASTREAM_HTTP_ADDRESS", "DATASTREAM_HTTP_ADDR"),
            ("DATASTREAM_MAX_CONNECTION", "DATASTREAM_MAX_CONNECTIONS"),
        ] {
            assert!(hint(name, &known).ends_with(&format!(" {nearest})")), "{name}");
        }
    }
}
