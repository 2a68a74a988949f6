//! The file `.env` of the current folder.
//!
//! It may be another program's file: only names of this program are read from it, and no line of it
//! ends the program unless it sets one of those.

use std::{fs, io::ErrorKind, path::Path};

/// Names that this program reads. `DATABASE_URL` and `RUST_LOG` are whole names.
const PREFIXES: [&str; 2] = ["DATASTREAM_", "PG"];
const NAMES: [&str; 2] = ["DATABASE_URL", "RUST_LOG"];

/// What a file has besides the variables that it sets.
#[derive(Debug, Default)]
pub(super) struct EnvFile {
    /// What to warn of, once.
    pub(super) warning: Option<String>,
    /// The first of our names whose value cannot be read.
    pub(super) error: Option<String>,
}

/// Reads `.env` into the environment. Variables that are set already keep their values. Call it
/// while the process has one thread: setting a variable while another thread reads one is unsound.
pub(super) fn load() -> EnvFile {
    let file = Path::new(".env");
    // A folder of this name is usual for Python's virtual environments.
    if file.is_dir() {
        return EnvFile::default();
    }
    match fs::read(file) {
        Ok(bytes) => load_text(&String::from_utf8_lossy(&bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => EnvFile::default(),
        Err(error) => {
            let warning =
                Some(format!(".env is not read: {error}. Make it readable or remove it."));
            EnvFile { warning, error: None }
        }
    }
}

fn load_text(text: &str) -> EnvFile {
    let parsed = parse(text);
    // Single quotes take everything but themselves. This sets no variable that is set already.
    let quoted = parsed
        .ours
        .iter()
        .map(|(name, value)| format!("{name}='{}'\n", value.replace('\'', r#"'"'"'"#)));
    let loaded = dotenvy::from_read(quoted.collect::<String>().as_bytes());
    let error = parsed.error.or_else(|| loaded.err().map(|error| format!(".env: {error}")));
    EnvFile { warning: warning(&parsed.no_assignments), error }
}

fn warning(lines: &[usize]) -> Option<String> {
    let (first, others) = lines.split_first()?;
    let others = match others.len() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(format!(
        ".env: line {first}{others} is not NAME=value and is ignored. Put a value of several lines \
         in double quotes."
    ))
}

#[derive(Debug, Default)]
struct Parsed {
    ours: Vec<(String, String)>,
    /// Lines without a name, by number.
    no_assignments: Vec<usize>,
    error: Option<String>,
}

/// Reads each assignment by itself, since one that cannot be read must not hide the next.
fn parse(text: &str) -> Parsed {
    let lines: Vec<&str> = text.trim_start_matches('\u{feff}').lines().collect();
    let (mut parsed, mut readable, mut at) = (Parsed::default(), String::new(), 0);
    while let Some(line) = lines.get(at) {
        let (number, last) = (at + 1, last_line(&lines, at));
        let assignment = lines[at..=last].join("\n");
        at = last + 1;
        match name(line) {
            Line::NoAssignment => parsed.no_assignments.push(number),
            Line::Sets(_) if read(&assignment).is_some() => {
                readable.push_str(&assignment);
                readable.push('\n');
            }
            Line::Sets(name) if is_ours(name) => {
                parsed.error.get_or_insert_with(|| bad_value(number, name));
            }
            Line::Nothing | Line::Sets(_) => {}
        }
    }
    // All together, because a value may refer to an earlier name: `$NAME`.
    let all = dotenvy::from_read_iter(readable.as_bytes()).flatten();
    parsed.ours = all.filter(|(name, _)| is_ours(name)).collect();
    parsed
}

enum Line<'a> {
    /// Empty, a comment, or the `export` of a variable that has its value from elsewhere.
    Nothing,
    Sets(&'a str),
    NoAssignment,
}

fn name(line: &str) -> Line<'_> {
    let line = line.trim();
    let exported = line.strip_prefix("export ").map(str::trim_start);
    let Some((name, _)) = exported.unwrap_or(line).split_once('=') else {
        let is_nothing = line.is_empty() || line.starts_with('#') || exported.is_some_and(is_name);
        return if is_nothing { Line::Nothing } else { Line::NoAssignment };
    };
    match name.trim_end() {
        _ if line.starts_with('#') => Line::Nothing,
        name if is_name(name) => Line::Sets(name),
        _ => Line::NoAssignment,
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '.'))
}

fn is_ours(name: &str) -> bool {
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The line at which an assignment ends: a value in quotes may have several. Quotes that do not
/// close before the next of our names are a mistake of one line.
fn last_line(lines: &[&str], first: usize) -> usize {
    let Line::Sets(_) = name(lines[first]) else { return first };
    let value = lines[first].split_once('=').map_or("", |(_, value)| value.trim());
    let Some(quote @ ('"' | '\'')) = value.chars().next() else { return first };
    if closes(&value[1..], quote) {
        return first;
    }
    let later = lines.iter().enumerate().skip(first + 1);
    let mut inside =
        later.take_while(|(_, line)| !matches!(name(line), Line::Sets(name) if is_ours(name)));
    inside.find(|(_, line)| closes(line, quote)).map_or(first, |(last, _)| last)
}

/// Whether the quote ends in this text. A backslash escapes a double quote, not a single one.
fn closes(text: &str, quote: char) -> bool {
    let mut escaped = false;
    text.chars().any(|char| {
        let ends = char == quote && !escaped;
        escaped = char == '\\' && quote == '"' && !escaped;
        ends
    })
}

fn read(assignment: &str) -> Option<(String, String)> {
    dotenvy::from_read_iter(assignment.as_bytes()).next()?.ok()
}

/// Without the value, which may be a password.
fn bad_value(number: usize, name: &str) -> String {
    format!(
        ".env: line {number}: the value of {name} cannot be read. Put a value with spaces, # or $ in \
         single quotes."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(text: &str) -> Vec<(String, String)> {
        let parsed = parse(text);
        assert_eq!((parsed.error, &parsed.no_assignments[..]), (None, &[][..]), "{text}");
        parsed.ours
    }

    fn one(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn only_our_names_are_read() {
        let text = "APP_NAME=My Game\nexport SECRET\nexport PGHOST=h # here\n#DATABASE_URL=x\n\
                    DATASTREAMS=1\nPATH=/nowhere\nRUST_LOG_STYLE=never\n";
        assert_eq!(ours(text), one("PGHOST", "h"));
    }

    #[test]
    fn a_value_may_refer_to_an_earlier_name_of_another_program() {
        let text = "DB_HOST_=db.example\nDB=game\nDATABASE_URL=\"postgres://u@h/${DB}\"\n";
        assert_eq!(ours(text), one("DATABASE_URL", "postgres://u@h/game"));
    }

    #[test]
    fn quotes_that_do_not_close_hide_no_later_line() {
        for first in ["TITLE=Bob's game", "TITLE='Bob", "TITLE=\"Bob", "A=b \"c"] {
            let text = format!("{first}\nPGHOST='h'\nLAST=\"x\"\n");
            assert_eq!(ours(&text), one("PGHOST", "h"), "{first}");
        }
    }

    #[test]
    fn a_key_in_quotes_has_several_lines_and_one_without_is_warned_of_once() {
        let key = "-----BEGIN KEY-----\nMIIEvQIB+/ADANBg==\nab/cd=\n-----END KEY-----";
        assert_eq!(ours(&format!("KEY=\"{key}\"\nPGHOST=h\n")), one("PGHOST", "h"));
        let parsed = parse(&format!("KEY={key}\nPGHOST=h\n"));
        assert_eq!(parsed.ours, one("PGHOST", "h"));
        assert_eq!(parsed.no_assignments, [2, 3, 4]);
        let warning = warning(&parsed.no_assignments).expect("a warning");
        assert!(warning.starts_with(".env: line 2 (and 2 more) is not NAME=value"), "{warning}");
    }

    #[test]
    fn a_bad_value_of_our_names_is_an_error_without_the_value() {
        let error = parse("A=1\nDATABASE_URL=postgres://u:hush hush@h/db\n").error;
        let error = error.expect("an error");
        assert!(error.starts_with(".env: line 2: the value of DATABASE_URL"), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn line_ends_of_windows_and_a_byte_order_mark_do_not_count() {
        assert_eq!(ours("\u{feff}PGHOST=h\r\n\r\nPGUSER=u\r\n").len(), 2);
        assert_eq!(ours("PGOPTIONS=''\n"), one("PGOPTIONS", ""));
    }
}
