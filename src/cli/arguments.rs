//! Parses arguments and variables into a [`Cli`]. An error is one line that names the option.

use std::{
    env,
    ffi::{OsStr, OsString},
};

use clap::{
    Arg, CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{Cli, Failure};

/// Parses the command line. The first word is the program's name.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, Failure> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words);
    let parsed = matches.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Failure::HelpOrVersion(error),
        _ => Failure::usage(&one_line(&error, &command)),
    })
}

/// The commands and their options. An empty variable counts as not set.
pub(super) fn command() -> clap::Command {
    let command = Cli::command().mut_args(without_empty);
    command.mut_subcommands(|command| command.mut_args(without_empty))
}

/// A demo's speed.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| (0.01..=1000.0).contains(speed));
    speed.ok_or_else(|| "must be a number from 0.01 to 1000".to_owned())
}

/// Variables whose empty value is an error: a missing secret must not open the feed.
const NEVER_EMPTY: [&str; 2] = ["DATASTREAM_AUTH_SECRET", "DATASTREAM_AUTH_KEYS"];

/// An empty variable counts as not set: compose files and `.env` often set one to nothing.
fn without_empty(arg: Arg) -> Arg {
    let is_empty = |name: &OsStr| {
        let may_be_empty = !NEVER_EMPTY.iter().any(|never| name == *never);
        may_be_empty && env::var_os(name).is_some_and(|text| text.is_empty())
    };
    if arg.get_env().is_some_and(is_empty) { arg.env(None::<&str>) } else { arg }
}

/// The error's first paragraph, without usage and tips, and with the option's variable.
fn one_line(error: &clap::Error, command: &clap::Command) -> String {
    let text = error.render().to_string();
    let paragraph = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let line = paragraph.collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    match variable(error, command) {
        Some(variable) => format!("{line} (variable {variable})"),
        None => format!("{line}. Run: datastream --help"),
    }
}

fn variable(error: &clap::Error, command: &clap::Command) -> Option<String> {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let long = shown.strip_prefix("--")?.split([' ', '=', '[']).next();
    let everywhere = command.get_subcommands().chain([command]);
    let mut args = everywhere.flat_map(clap::Command::get_arguments);
    let arg = args.find(|arg| arg.get_long() == long)?;
    arg.get_env().map(|name| name.to_string_lossy().into_owned())
}
