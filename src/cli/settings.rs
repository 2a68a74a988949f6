//! `datastream config`: each setting, its value, and its origin.

mod redact;

use std::{collections::HashSet, env};

use clap::{Arg, ArgMatches, Command, parser::ValueSource};

use super::{
    Environment, Failure, arguments,
    commands::{env_variable, print_line},
};
use crate::{
    config::{in_force, options::ServeOptions},
    ops::telemetry::logs,
};

/// The width of the values' column. Longer values are not cut.
const WIDTH_MAX: usize = 48;
const UNSET: &str = "(not set)";

/// A setting as it is printed.
struct Setting {
    name: String,
    value: String,
    origin: String,
}

/// Prints the settings. Fails if `serve` would refuse them.
pub(super) fn print(options: &ServeOptions, environment: &Environment) -> Result<(), Failure> {
    let settings = settings(environment)?;
    let widest = |text: fn(&Setting) -> &str, most: usize| {
        settings.iter().map(|it| text(it).chars().count()).filter(|width| *width <= most).max()
    };
    let name_width = widest(|it| &it.name, usize::MAX).unwrap_or(0);
    let value_width = widest(|it| &it.value, WIDTH_MAX).unwrap_or(0);
    for Setting { name, value, origin } in &settings {
        print_line(&format!("{name:name_width$}  {value:value_width$}  {origin}"));
    }
    options.clone().resolve(env_variable).map_err(|error| Failure::usage(&error))?;
    Ok(())
}

fn settings(environment: &Environment) -> Result<Vec<Setting>, Failure> {
    let mut command = arguments::command();
    let matches = command.try_get_matches_from_mut(env::args_os());
    let matches = matches.map_err(Failure::HelpOrVersion)?;
    let (_, given) = matches.subcommand().unwrap_or(("config", &matches));
    // The arguments as declared: without the rule that an empty variable counts as not set.
    let declared = <super::Cli as clap::CommandFactory>::command();
    let own: Vec<&Arg> = declared.get_arguments().filter(|arg| arg.get_env().is_some()).collect();
    let mut known: HashSet<&str> = own.iter().filter_map(|arg| variable(arg)).collect();
    let mut all: Vec<_> = own.iter().map(|arg| of_serve(arg, given, environment)).collect();
    for arg in declared.get_subcommands().flat_map(Command::get_arguments) {
        if variable(arg).is_some_and(|name| known.insert(name)) {
            all.push(of_another_command(arg, environment));
        }
    }
    all.extend(of_libraries(environment));
    Ok(all)
}

fn variable(arg: &Arg) -> Option<&str> {
    arg.get_env()?.to_str()
}

/// An option of `serve`, which `config` takes too.
fn of_serve(arg: &Arg, given: &ArgMatches, environment: &Environment) -> Setting {
    let id = arg.get_id().as_str();
    let name = variable(arg).unwrap_or(id).to_owned();
    let values = given.get_raw(id).into_iter().flatten();
    let values: Vec<_> = values.map(|value| value.to_string_lossy().into_owned()).collect();
    let origin = match given.value_source(id) {
        Some(ValueSource::CommandLine) => {
            format!("flag --{}", arg.get_long().unwrap_or(id))
        }
        Some(ValueSource::EnvVariable) => origin_of_variable(&name, environment),
        _ => "default".to_owned(),
    };
    Setting { value: shown(arg, &values.join(",")), name, origin }
}

/// An option of another command, which is set by its variable only.
fn of_another_command(arg: &Arg, environment: &Environment) -> Setting {
    let name = variable(arg).unwrap_or_default().to_owned();
    match env_variable(&name).filter(|value| !value.is_empty()) {
        Some(value) => {
            let origin = origin_of_variable(&name, environment);
            Setting { value: shown(arg, &value), name, origin }
        }
        None => {
            let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy());
            let value = shown(arg, &defaults.collect::<Vec<_>>().join(","));
            Setting { name, value, origin: "default".to_owned() }
        }
    }
}

/// The variables that PostgreSQL's clients and the log filter read.
fn of_libraries(environment: &Environment) -> Vec<Setting> {
    let set = env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.to_string_lossy().into_owned());
        (name.starts_with("PG") && name == name.to_uppercase() && !value.is_empty())
            .then_some((name, value))
    });
    let mut set: Vec<_> = set.filter(|(name, _)| !name.starts_with("PG_")).collect();
    set.sort();
    let filter = env_variable("RUST_LOG").filter(|filter| !filter.trim().is_empty());
    let setting = |(name, value): (String, String)| {
        let origin = origin_of_variable(&name, environment);
        Setting { value: redact::value(&name, &value), name, origin }
    };
    let logging = match filter {
        Some(filter) => setting(("RUST_LOG".to_owned(), filter)),
        None => Setting {
            name: "RUST_LOG".to_owned(),
            value: logs::DEFAULT_FILTER.to_owned(),
            origin: "default".to_owned(),
        },
    };
    set.into_iter().map(setting).chain([logging]).collect()
}

fn origin_of_variable(name: &str, environment: &Environment) -> String {
    if environment.is_from_file(name) { ".env".to_owned() } else { "environment".to_owned() }
}

/// The value without its secrets.
fn shown(arg: &Arg, value: &str) -> String {
    let name = variable(arg).unwrap_or_default();
    if value.is_empty() {
        return in_force::value(name).unwrap_or_else(|| UNSET.to_owned());
    }
    match arg.is_hide_env_values_set() {
        true if name.ends_with("_URL") => redact::secret(value),
        true => redact::HIDDEN.to_owned(),
        false => redact::value(name, value),
    }
}
