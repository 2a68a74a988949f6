//! Logs: one line per event on stderr, as text or JSON. stdout is for data only.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, fmt};

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Readable text, colored on a terminal.
    #[default]
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// The filter if `RUST_LOG` is not set. sqlx logs each statement at `debug` and each slow one at
/// `warn`.
pub(crate) const DEFAULT_FILTER: &str = "info,sqlx=warn";

/// `RUST_LOG` contains a filter that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("RUST_LOG: {0}")]
pub(crate) struct BadFilter(String);

/// Starts logging for the process. `RUST_LOG` overrides `default_filter`. A second call does
/// nothing, so that each test can call it.
pub(crate) fn init(format: Format, default_filter: &str) -> Result<(), BadFilter> {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref(), default_filter)?;
    // A line that cannot be written (disk full) is lost: logging that error would fail too, and panic.
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

fn filter(rust_log: Option<&str>, default_filter: &str) -> Result<EnvFilter, BadFilter> {
    let filter = rust_log.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(default_filter);
    EnvFilter::try_new(filter).map_err(|error| BadFilter(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_log_overrides_the_default_unless_it_is_empty() {
        let text = |rust_log| filter(rust_log, DEFAULT_FILTER).expect("a filter").to_string();
        assert_eq!(text(Some("debug")), "debug");
        for absent in [None, Some(" ")] {
            assert!(text(absent).contains("sqlx=warn"), "{}", text(absent));
        }
    }

    #[test]
    fn the_error_for_an_invalid_filter_names_the_variable() {
        let error = filter(Some("info,=="), DEFAULT_FILTER).expect_err("nonsense");
        assert!(error.to_string().starts_with("RUST_LOG: "), "{error}");
    }
}
