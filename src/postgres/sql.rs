//! The files of `sql/` as they are sent: in one line, without comments.
//!
//! A server with `log_statement = all` writes each statement to its log, and the capture polls four
//! times a second: the text of `sql/poll.sql` with its comments took 0.75 GB a day.

/// The statement in `sql/NAME.sql`, or the text of several such files.
macro_rules! sql {
    ($($name:literal),+) => {{
        const TEXT: &str = concat!($(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/", $name, ".sql")), "\n"
        ),+);
        const STRIPPED: ([u8; TEXT.len()], usize) = $crate::postgres::sql::strip(TEXT.as_bytes());
        const STATEMENT: &str = $crate::postgres::sql::as_text(&STRIPPED);
        STATEMENT
    }};
}
pub(crate) use sql;

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Code,
    Comment,
    /// In quotes that end with this byte.
    Quoted(u8),
    /// In a string with escapes: E'it\'s'.
    Escaping,
    /// After a backslash in it.
    Escaped,
}

impl Place {
    /// The place behind a byte of a string or of a quoted name.
    const fn behind(self, byte: u8) -> Self {
        match self {
            Self::Quoted(end) if byte == end => Self::Code,
            Self::Escaping if byte == b'\'' => Self::Code,
            Self::Escaping if byte == b'\\' => Self::Escaped,
            Self::Escaped => Self::Escaping,
            place => place,
        }
    }
}

/// The text in one line, at the start of the array, and its length. The build fails for syntax that
/// this does not know: block comments and dollar quotes.
pub(crate) const fn strip<const N: usize>(text: &[u8]) -> ([u8; N], usize) {
    let (place, string) = (Place::Code, Place::Code);
    let (space, new_line) = (false, false);
    let mut stripped = Stripped { line: [0; N], length: 0, place, string, space, new_line };
    let mut at = 0;
    while at < text.len() {
        let next = if at + 1 < text.len() { text[at + 1] } else { b'\n' };
        stripped.take(text[at], next);
        at += 1;
    }
    (stripped.line, stripped.length)
}

/// The start of a text in one line.
struct Stripped<const N: usize> {
    line: [u8; N],
    length: usize,
    place: Place,
    /// The place in the last string.
    string: Place,
    /// Whether white space or a comment came since the last byte of the line.
    space: bool,
    /// Whether a line of the text ended since.
    new_line: bool,
}

impl<const N: usize> Stripped<N> {
    const fn take(&mut self, byte: u8, next: u8) {
        let stays = match self.place {
            Place::Comment => self.take_comment(byte),
            Place::Code => self.take_code(byte, next),
            place => {
                self.place = place.behind(byte);
                true
            }
        };
        if stays {
            if self.space && self.length > 0 {
                self.push(b' ');
            }
            (self.space, self.new_line) = (false, false);
            self.push(byte);
        }
    }

    const fn take_comment(&mut self, byte: u8) -> bool {
        if byte == b'\n' {
            (self.place, self.new_line) = (Place::Code, true);
        }
        false
    }

    /// Returns whether the byte stays.
    const fn take_code(&mut self, byte: u8, next: u8) -> bool {
        assert!(!(byte == b'/' && next == b'*'), "a block comment");
        assert!(byte != b'$' || next.is_ascii_digit(), "a dollar quote");
        let begins_comment = byte == b'-' && next == b'-';
        if begins_comment {
            self.place = Place::Comment;
        }
        if begins_comment || byte.is_ascii_whitespace() {
            (self.space, self.new_line) = (true, self.new_line || byte == b'\n');
            return false;
        }
        match byte {
            // Two strings on two lines are one (SQL standard; PostgreSQL, "String Constants").
            b'\'' if self.new_line && self.last() == b'\'' => {
                (self.place, self.space, self.new_line) = (self.string, false, false);
                self.length -= 1;
                return false;
            }
            b'\'' => self.begin_string(),
            b'"' => self.place = Place::Quoted(byte),
            _ => {}
        }
        true
    }

    const fn begin_string(&mut self) {
        let has_escapes = matches!(self.last(), b'E' | b'e') && !self.space;
        self.place = if has_escapes { Place::Escaping } else { Place::Quoted(b'\'') };
        self.string = self.place;
    }

    /// The last byte of the line.
    const fn last(&self) -> u8 {
        if self.length > 0 { self.line[self.length - 1] } else { b' ' }
    }

    const fn push(&mut self, byte: u8) {
        self.line[self.length] = byte;
        self.length += 1;
    }
}

/// The stripped text.
pub(crate) const fn as_text<const N: usize>((line, length): &([u8; N], usize)) -> &str {
    match std::str::from_utf8(line.split_at(*length).0) {
        Ok(text) => text,
        // At compile time.
        #[expect(clippy::panic, reason = "it fails the build")]
        Err(_) => panic!("the file is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(text: &str) -> String {
        let line: ([u8; 200], usize) = strip(text.as_bytes());
        as_text(&line).to_owned()
    }

    #[test]
    fn comments_and_line_breaks_become_single_spaces() {
        assert_eq!(stripped("-- why\n-- more\nselect 1,\n\t  2 -- last\n"), "select 1, 2");
        assert_eq!(stripped("select a-- b\nfrom c\n\n"), "select a from c");
        assert_eq!(stripped("select $1::text - -1"), "select $1::text - -1");
    }

    #[test]
    fn quotes_keep_their_content() {
        for text in [
            "select '--  x''  y'",
            "select \"a  --b\"",
            "select 'two\nlines'",
            r"select E'\'  --', '\'",
        ] {
            assert_eq!(stripped(text), text);
        }
    }

    #[test]
    fn a_string_on_several_lines_is_one() {
        assert_eq!(stripped("select 'a'\n  -- c\n  'b', 'c' 'd'"), "select 'ab', 'c' 'd'");
        assert_eq!(stripped("select E'a\\n'\n'b\\''\n"), "select E'a\\nb\\''");
    }

    #[test]
    fn the_poll_is_one_line_without_comments() {
        for statement in [sql!("poll"), sql!("idle"), sql!("page"), sql!("doctor/attached")] {
            assert!(!statement.contains('\n') && !statement.contains("--  "), "{statement}");
            assert!(statement.starts_with("select ") || statement.starts_with("with "));
        }
        // With its log line and its parameter, four times a second: below 300 MB a day.
        assert!(sql!("idle").len() < 700, "{}", sql!("idle").len());
    }
}
