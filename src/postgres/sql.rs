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

/// The text in one line, at the start of the array, and its length. The build fails for syntax that
/// this does not know: block comments and dollar quotes.
pub(crate) const fn strip<const N: usize>(text: &[u8]) -> ([u8; N], usize) {
    let (mut line, mut length, mut at) = ([0; N], 0, 0);
    let (mut place, mut string) = (Place::Code, Place::Code);
    let (mut space, mut new_line) = (false, false);
    while at < text.len() {
        let byte = text[at];
        let next = if at + 1 < text.len() { text[at + 1] } else { b'\n' };
        at += 1;
        match place {
            Place::Comment => {
                if byte == b'\n' {
                    (place, new_line) = (Place::Code, true);
                }
                continue;
            }
            Place::Quoted(end) if byte == end => place = Place::Code,
            Place::Escaping if byte == b'\'' => place = Place::Code,
            Place::Escaping if byte == b'\\' => place = Place::Escaped,
            Place::Escaped => place = Place::Escaping,
            Place::Quoted(_) | Place::Escaping => {}
            Place::Code => {
                assert!(!(byte == b'/' && next == b'*'), "a block comment");
                assert!(byte != b'$' || next.is_ascii_digit(), "a dollar quote");
                if byte == b'-' && next == b'-' {
                    place = Place::Comment;
                }
                if byte.is_ascii_whitespace() || matches!(place, Place::Comment) {
                    (space, new_line) = (true, new_line || byte == b'\n');
                    continue;
                }
                // Two strings on two lines are one (SQL standard; PostgreSQL, "String Constants").
                if byte == b'\'' && new_line && length > 0 && line[length - 1] == b'\'' {
                    (place, space, new_line, length) = (string, false, false, length - 1);
                    continue;
                }
                if byte == b'\'' && length > 0 && matches!(line[length - 1], b'E' | b'e') && !space
                {
                    place = Place::Escaping;
                } else if byte == b'\'' || byte == b'"' {
                    place = Place::Quoted(byte);
                }
                if byte == b'\'' {
                    string = place;
                }
            }
        }
        if space && length > 0 {
            line[length] = b' ';
            length += 1;
        }
        (space, new_line) = (false, false);
        line[length] = byte;
        length += 1;
    }
    (line, length)
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
