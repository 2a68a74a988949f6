//! Logs: one line per event on stderr, as text or JSON. stdout is for data only.
//!
//! A log that nobody reads, or that is full, delays nothing ([`writer`]), and no message fills it
//! ([`repeats`]).

mod repeats;
mod writer;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{IsTerminal, stderr},
    panic::PanicHookInfo,
    thread,
    time::Duration,
};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterFn, filter_fn},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use self::repeats::Repeats;
pub(super) use self::writer::{dropped_lines, queued_bytes};

/// The time between two checks for messages that were suppressed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

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

/// Writes the rest of the log when it is dropped, if somebody reads it.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub(crate) struct LogGuard {
    repeats: Repeats,
    _worker: WorkerGuard,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.repeats.log_counts(true);
    }
}

/// Starts logging for the process. `RUST_LOG` overrides `default_filter`. A second call does
/// nothing, so that each test can call it.
pub(crate) fn init(format: Format, default_filter: &str) -> Result<LogGuard, BadFilter> {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref(), default_filter)?;
    let (writer, worker) = writer::start(stderr(), queued_bytes());
    let lines = fmt::layer().with_writer(writer).log_internal_errors(false);
    let lines = match format {
        Format::Text => lines.with_ansi(stderr().is_terminal()).boxed(),
        Format::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
    };
    let repeats = Repeats::default();
    let subscriber = tracing_subscriber::registry().with(lines).with(filter);
    let subscriber = subscriber.with(without_requests()).with(repeats.clone());
    match subscriber.try_init() {
        Ok(()) => {
            std::panic::set_hook(Box::new(log_panic));
            log_counts_of(repeats.clone());
        }
        Err(already) => tracing::debug!("logging was started before: {already}"),
    }
    Ok(LogGuard { repeats, _worker: worker })
}

/// The standard hook writes to stderr itself, and would wait for a pipe that nobody reads.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(thread, "{panic}\n{backtrace}"),
        _ => tracing::error!(thread, "{panic}"),
    }
}

/// Logs the counts of suppressed messages until the process ends. Without this thread, the count of
/// a message that does not come again would be lost.
fn log_counts_of(repeats: Repeats) {
    let log_counts = move || loop {
        thread::sleep(CHECK_INTERVAL);
        repeats.log_counts(false);
    };
    if let Err(error) = thread::Builder::new().name("log-repeats".to_owned()).spawn(log_counts) {
        tracing::warn!(%error, "repeated messages will not be counted");
    }
}

/// The modules of libraries that log whole requests, whose targets and headers hold tokens, and the
/// most verbose level at which they do not.
const LOG_REQUESTS: [(&str, LevelFilter); 2] =
    [("wtransport::driver", LevelFilter::INFO), ("tungstenite::handshake", LevelFilter::DEBUG)];

/// Drops their lines, whatever `RUST_LOG` asks for.
fn without_requests() -> FilterFn {
    filter_fn(|meta| {
        let logs = |(module, allowed): &(&str, LevelFilter)| {
            meta.target().starts_with(module) && meta.level() > allowed
        };
        !LOG_REQUESTS.iter().any(logs)
    })
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
