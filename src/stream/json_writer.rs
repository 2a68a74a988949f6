//! JSON without the characters that line readers take for the end of a line.
//!
//! JSON strings may contain U+0085, U+2028 and U+2029 as they are. Several SSE libraries of Python
//! split lines there (httpx, aiosseclient, requests), so they are escaped.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Serializer, ser::Formatter};

const LINE_ENDS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// Compact JSON with [`LINE_ENDS`] escaped. serde_json escapes line feed and carriage return itself.
struct LineSafe;

/// Appends the value as JSON.
pub(crate) fn write(value: &impl Serialize, into: &mut Vec<u8>) {
    // Serializing numbers and strings into a Vec cannot fail.
    let _ = value.serialize(&mut Serializer::with_formatter(into, LineSafe));
}

impl Formatter for LineSafe {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Nearly all fragments: `is_ascii` reads eight bytes at once.
        if fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        for part in fragment.split_inclusive(LINE_ENDS) {
            let end = part.chars().next_back().filter(|last| LINE_ENDS.contains(last));
            writer.write_all(part.trim_end_matches(LINE_ENDS).as_bytes())?;
            if let Some(end) = end {
                write!(writer, "\\u{:04x}", u32::from(end))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        let mut json = Vec::new();
        write(&text, &mut json);
        String::from_utf8(json).expect("UTF-8")
    }

    #[test]
    fn line_ends_are_escaped_and_nothing_else_changes() {
        assert_eq!(json("a\u{2028}b"), "\"a\\u2028b\"");
        assert_eq!(json("\u{85}\u{2029}\u{2029}"), "\"\\u0085\\u2029\\u2029\"");
        assert_eq!(json("\u{2028}é\u{84}\u{2027}\n\\"), "\"\\u2028é\u{84}\u{2027}\\n\\\\\"");
        assert_eq!(json("plain"), "\"plain\"");
        let read: String = serde_json::from_str(&json("\u{85}x\u{2028}")).expect("JSON");
        assert_eq!(read, "\u{85}x\u{2028}");
    }
}
