//! Logs: one line an event on stderr, as text or JSON. stdout is left to data.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, fmt};

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people; colored on a terminal.
    #[default]
    Text,
    /// One object a line, for collectors.
    Json,
}

/// What is logged where `RUST_LOG` does not say: sqlx reports each statement at `debug` and each
/// slow one at `warn`.
pub(crate) const DEFAULT_FILTER: &str = "info,sqlx=warn";

/// A filter in `RUST_LOG` that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("RUST_LOG: {0}")]
pub(crate) struct BadFilter(String);

/// Starts logging for the process. `RUST_LOG` wins over `default_filter`. A second call does
/// nothing, so that tests may each call it.
pub(crate) fn init(format: Format, default_filter: &str) -> Result<(), BadFilter> {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref(), default_filter)?;
    // A line that cannot be written (a full disk) is lost; to say so would fail as well, and panic.
    let lines = fmt().with_env_filter(filter).with_writer(stderr).log_internal_errors(false);
    let started = match format {
        Format::Text => lines.with_ansi(stderr().is_terminal()).try_init(),
        Format::Json => lines.json().flatten_event(true).with_ansi(false).try_init(),
    };
    if let Err(already) = started {
        tracing::debug!("logging was started before: {already}");
    }
    Ok(())
}

fn filter(asked: Option<&str>, default_filter: &str) -> Result<EnvFilter, BadFilter> {
    let filter = asked.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(default_filter);
    EnvFilter::try_new(filter).map_err(|error| BadFilter(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_log_wins_and_an_empty_one_counts_as_absent() {
        let text = |asked| filter(asked, DEFAULT_FILTER).expect("a filter").to_string();
        assert_eq!(text(Some("debug")), "debug");
        for absent in [None, Some(" ")] {
            assert!(text(absent).contains("sqlx=warn"), "{}", text(absent));
        }
    }

    #[test]
    fn a_filter_that_cannot_be_read_names_the_variable() {
        let error = filter(Some("info,=="), DEFAULT_FILTER).expect_err("nonsense");
        assert!(error.to_string().starts_with("RUST_LOG: "), "{error}");
    }
}
