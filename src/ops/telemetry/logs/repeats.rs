//! Messages that repeat: each is written at most once in [`WINDOW`], and then with its count, so
//! that no client, role or row can fill the log.
//!
//! Two messages are the same if the same place in the code logs the same text. A stranger may vary
//! the text: of one place, [`TEXTS_MAX`] texts are kept apart, and the others are counted together.
//! Levels below `info` are not limited: an operator turns them on to see everything.

use std::{
    collections::HashMap,
    fmt::{self, Write},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::{
    Event, Level, Metadata, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// How often a message may be written.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// The most texts of one place in the code that are kept apart.
const TEXTS_MAX: usize = 8;
/// The most bytes of a text that is repeated with its count.
const TEXT_BYTES_MAX: usize = 512;
/// The target of the lines with counts, which are not limited themselves.
const TARGET: &str = "datastream::log";

/// Suppresses messages that repeat. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Repeats {
    places: Arc<Mutex<HashMap<Identifier, Place>>>,
    hasher: RandomState,
}

/// A place in the code that logs.
#[derive(Debug)]
struct Place {
    level: Level,
    windows: Vec<Window>,
}

/// A message that was written, and its repetitions since.
#[derive(Debug)]
struct Window {
    /// The hash of the text; `None` for all texts beyond [`TEXTS_MAX`].
    text: Option<u64>,
    since: Instant,
    suppressed: u64,
    last: String,
}

/// A message with the number of its repetitions.
#[derive(Debug, PartialEq)]
struct Summary {
    level: Level,
    count: u64,
    text: String,
}

impl Repeats {
    /// Whether this message may be written now. Counts it if not.
    fn admits(&self, metadata: &Metadata<'_>, text: String, now: Instant) -> bool {
        let hash = Some(self.hasher.hash_one(&text));
        let mut places = self.places.lock();
        let place = places.entry(metadata.callsite());
        let place =
            place.or_insert_with(|| Place { level: *metadata.level(), windows: Vec::new() });
        let is_full = place.windows.len() >= TEXTS_MAX;
        let known = place.windows.iter().position(|window| window.text == hash);
        let known = known.or_else(|| place.windows.iter().position(|window| window.text.is_none()));
        let window = match known {
            Some(known) => &mut place.windows[known],
            None => {
                let text = (!is_full).then_some(hash).flatten();
                place.windows.push(Window { text, since: now, suppressed: 0, last: String::new() });
                if !is_full {
                    return true;
                }
                &mut place.windows[TEXTS_MAX]
            }
        };
        window.suppressed += 1;
        window.last = text;
        false
    }

    /// Ends the windows that are over, and returns the messages that were suppressed in them.
    fn end_windows(&self, now: Instant, also_open: bool) -> Vec<Summary> {
        let mut summaries = Vec::new();
        self.places.lock().retain(|_, place| {
            let level = place.level;
            place.windows.retain_mut(|window| {
                if !also_open && now.duration_since(window.since) < WINDOW {
                    return true;
                }
                let count = std::mem::take(&mut window.suppressed);
                window.since = now;
                if count > 0 {
                    summaries.push(Summary {
                        level,
                        count,
                        text: std::mem::take(&mut window.last),
                    });
                }
                // What was written now begins a window again.
                count > 0
            });
            !place.windows.is_empty()
        });
        summaries
    }

    /// Logs the messages that were suppressed, each once with its count: those whose window is
    /// over, or all of them at the end of the program.
    pub(super) fn log_counts(&self, also_open: bool) {
        for Summary { level, count, text } in self.end_windows(Instant::now(), also_open) {
            match level {
                Level::ERROR => tracing::error!(target: TARGET, count, "repeated: {text}"),
                Level::WARN => tracing::warn!(target: TARGET, count, "repeated: {text}"),
                _ => tracing::info!(target: TARGET, count, "repeated: {text}"),
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == TARGET {
            return true;
        }
        let mut text = Text::default();
        event.record(&mut text);
        self.admits(metadata, text.0, Instant::now())
    }
}

/// The message and the fields of an event.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{space}{value:?}"),
            name => write!(self.0, "{space}{name}={value:?}"),
        };
        if self.0.len() > TEXT_BYTES_MAX {
            let end = (0..=TEXT_BYTES_MAX).rev().find(|end| self.0.is_char_boundary(*end));
            self.0.truncate(end.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Callsite, callsite::DefaultCallsite, field::FieldSet, metadata::Kind};

    use super::*;

    static PLACE: DefaultCallsite = DefaultCallsite::new(&METADATA);
    static METADATA: Metadata<'static> = Metadata::new(
        "a warning",
        "tests",
        Level::WARN,
        None,
        None,
        None,
        FieldSet::new(&["message"], Identifier(&PLACE)),
        Kind::EVENT,
    );

    fn admits(repeats: &Repeats, text: &str, now: Instant) -> bool {
        repeats.admits(PLACE.metadata(), text.to_owned(), now)
    }

    #[test]
    fn a_message_is_written_once_in_ten_seconds_and_then_with_its_count() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        assert!(admits(&repeats, "down", start));
        for _ in 0..1000 {
            assert!(!admits(&repeats, "down", start));
        }
        assert!(repeats.end_windows(start + WINDOW / 2, false).is_empty());
        let summaries = repeats.end_windows(start + WINDOW, false);
        let summary = Summary { level: Level::WARN, count: 1000, text: "down".to_owned() };
        assert_eq!(summaries, [summary]);
        assert!(!admits(&repeats, "down", start + WINDOW), "its count was just written");
        assert_eq!(repeats.end_windows(start + WINDOW * 2, false).len(), 1);
        assert!(repeats.end_windows(start + WINDOW * 3, false).is_empty());
        assert!(admits(&repeats, "down", start + WINDOW * 3));
    }

    #[test]
    fn a_stranger_who_varies_the_text_fills_no_log() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let written = (0..1000).filter(|number| admits(&repeats, &number.to_string(), start));
        assert_eq!(written.count(), TEXTS_MAX);
        let summaries = repeats.end_windows(start + WINDOW, false);
        assert_eq!(summaries.iter().map(|it| it.count).sum::<u64>(), 1000 - TEXTS_MAX as u64);
        assert_eq!(summaries.len(), 1);
    }

    #[test]
    fn the_end_of_the_program_writes_all_counts() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let _ = (admits(&repeats, "down", start), admits(&repeats, "down", start));
        assert_eq!(repeats.end_windows(start, true).len(), 1);
    }
}
