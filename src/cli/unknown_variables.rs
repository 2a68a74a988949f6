//! Variables that look like this program's and are none: a misspelled one would be ignored silently.

use std::{collections::BTreeSet, env};

use clap::CommandFactory;

use super::Cli;

const PREFIX: &str = "DATASTREAM_";
/// `docker-compose.yml` reads it, perhaps from the same `.env`.
const OF_COMPOSE: &str = "DATASTREAM_PORT";

/// A line for each unknown variable, with the nearest known name.
pub(super) fn warnings() -> Vec<String> {
    let set: Vec<_> = env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let known = known();
    let unknown = set.iter().filter(|name| {
        name.starts_with(PREFIX) && !known.contains(*name) && !is_of_kubernetes(name, &set)
    });
    unknown.filter(|name| *name != OF_COMPOSE).map(|name| warning(name, &known)).collect()
}

/// The variables of all commands.
fn known() -> BTreeSet<String> {
    let command = Cli::command();
    let commands = command.get_subcommands().chain([&command]);
    let variables = commands.flat_map(clap::Command::get_arguments).filter_map(clap::Arg::get_env);
    variables.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Kubernetes sets `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT…` and `NAME_PORT…` for each service, and
/// one may be named `datastream` (Kubernetes, "Service", environment variables).
fn is_of_kubernetes(name: &str, set: &[String]) -> bool {
    let services = set.iter().filter_map(|host| host.strip_suffix("_SERVICE_HOST"));
    let mut of_service = services.filter_map(|service| name.strip_prefix(service));
    of_service.any(|rest| {
        rest == "_SERVICE_HOST" || rest.starts_with("_SERVICE_PORT") || rest.starts_with("_PORT")
    })
}

fn warning(name: &str, known: &BTreeSet<String>) -> String {
    let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(name, known));
    let nearest = nearest.map(String::as_str).unwrap_or_default();
    format!("the variable {name} is unknown and has no effect. Remove it, or use {nearest}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_names_the_nearest_variable() {
        for (wrong, right) in [
            ("DATASTREAM_HEARTBEATS", "DATASTREAM_HEARTBEAT"),
            ("DATASTREAM_WT_ENABLE", "DATASTREAM_WT_ENABLED"),
            ("DATASTREAM_ALLOWED_ORIGIN", "DATASTREAM_ALLOWED_ORIGINS"),
            ("DATASTREAM_MAX_CONECTIONS", "DATASTREAM_MAX_CONNECTIONS"),
        ] {
            let warning = warning(wrong, &known());
            assert!(warning.ends_with(&format!(" or use {right}.")), "{warning}");
        }
        assert!(known().contains("DATASTREAM_URL"), "options of every command");
    }

    #[test]
    fn variables_that_kubernetes_sets_for_a_service_are_no_mistake() {
        let set = ["DATASTREAM_SERVICE_HOST", "DATASTREAM_WT_SERVICE_HOST"].map(str::to_owned);
        for name in [
            "DATASTREAM_SERVICE_HOST",
            "DATASTREAM_SERVICE_PORT_HTTP",
            "DATASTREAM_PORT_3000_TCP_ADDR",
            "DATASTREAM_WT_PORT",
        ] {
            assert!(is_of_kubernetes(name, &set), "{name}");
        }
        assert!(!is_of_kubernetes("DATASTREAM_PORTS_", &["OTHER_SERVICE_HOST".to_owned()]));
        assert!(!is_of_kubernetes("DATASTREAM_HISTORY", &set));
    }
}
