//! The password file: lines `hostname:port:database:username:password`. The first match is used.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Once};

use super::{PgHost, Secret, defaults};

/// The password for this server, database and user, if the file has one.
pub(super) fn password(file: &Path, host: &PgHost, database: &str, user: &str) -> Option<Secret> {
    let metadata = fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        warn_once(file);
        return None;
    }
    let text = fs::read_to_string(file).ok()?;
    let wanted = [name(host), &host.port.to_string(), database, user];
    text.lines().find_map(|line| matching(line, &wanted))
}

/// The file is read for each connection, and a database that is away is tried many times a second.
fn warn_once(file: &Path) {
    static WARNED: Once = Once::new();
    let file = file.display();
    WARNED.call_once(|| {
        tracing::warn!(
            "password file {file} is ignored: other users can read it. Run: chmod 600 {file}"
        );
    });
}

/// libpq matches a socket in a default directory as `localhost`.
fn name(host: &PgHost) -> &str {
    match host.name.as_str() {
        directory if defaults::is_socket_directory(directory) => "localhost",
        name => name,
    }
}

fn matching(line: &str, wanted: &[&str; 4]) -> Option<Secret> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for wanted in wanted {
        let (field, after) = field(rest)?;
        if field != "*" && unescape(field) != **wanted {
            return None;
        }
        rest = after;
    }
    let password = unescape(field(rest).map_or(rest, |(password, _)| password));
    (!password.is_empty()).then_some(Secret(password))
}

/// Splits at the next colon without a backslash before it.
fn field(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        plain.extend(if char == '\\' { chars.next() } else { Some(char) });
    }
    plain
}
