//! Parses the two forms of a connection string: `postgres://…` and `key=value` pairs.

use super::TargetError;

/// The accepted ports.
pub(super) const PORT: &str = "a number from 1 to 65535";

const NEITHER: TargetError = TargetError::Malformed(
    "must be a URL such as postgres://user:password@host:5432/database, or host=… dbname=… pairs",
);
const ESCAPES: TargetError = TargetError::Malformed(
    "has a `%` without two hexadecimal digits after it. Write a `%` itself as %25.",
);
const BRACKETS: TargetError =
    TargetError::Malformed("has an IPv6 address without a closing bracket. Write [::1]:5432.");
const SURPLUS: TargetError = TargetError::Malformed(
    "has a port that is not a number from 1 to 65535. In a password, write `/` as %2F, `@` as %40 and `:` as %3A.",
);
const PARAMETER: TargetError =
    TargetError::Malformed("has a parameter without a value. After the `?`, write name=value.");
const QUOTE: TargetError = TargetError::Malformed("has a quote without its end. Add a `'`.");

type Pairs = Vec<(String, String)>;

/// The parameters in the string, decoded.
pub(super) fn pairs(text: &str) -> Result<Pairs, TargetError> {
    let text = text.trim();
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    match rest {
        Some(rest) => url(rest),
        None if text.contains("://") => Err(NEITHER),
        None => keywords(text),
    }
}

fn url(text: &str) -> Result<Pairs, TargetError> {
    // As in libpq, a password may have a `?` and no `/`. Unlike in libpq, the last `@` ends the
    // password: an unescaped `@` in it is a common mistake, and no host name has one.
    let authority = text.split('/').next().unwrap_or_default();
    let credentials = authority.rsplit_once('@').map_or("", |(credentials, _)| credentials);
    let rest = text[credentials.len()..].trim_start_matches('@');
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
    if database.contains('@') {
        return Err(SURPLUS);
    }
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let mut pairs = host_pairs(hosts)?;
    for (name, value) in [("user", user), ("password", password), ("dbname", database)] {
        pairs.push((name.to_owned(), decode(value)?));
    }
    pairs.retain(|(_, value)| !value.is_empty());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(PARAMETER)?;
        pairs.push((decode(name)?, decode(value)?));
    }
    Ok(pairs)
}

fn host_pairs(text: &str) -> Result<Pairs, TargetError> {
    let hosts: Vec<_> = text.split(',').map(host_and_port).collect::<Result<_, _>>()?;
    let list = |items: Vec<&str>| {
        let list =
            if items.iter().all(|item| item.is_empty()) { String::new() } else { items.join(",") };
        decode(&list)
    };
    let (names, ports): (Vec<_>, Vec<_>) = hosts.into_iter().unzip();
    Ok(vec![("host".to_owned(), list(names)?), ("port".to_owned(), list(ports)?)])
}

fn host_and_port(text: &str) -> Result<(&str, &str), TargetError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(BRACKETS)?;
            (host, after.strip_prefix(':').unwrap_or(after))
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let valid = port.is_empty() || port.parse::<u16>().is_ok_and(|port| port != 0);
    if valid { Ok((host, port)) } else { Err(SURPLUS) }
}

fn decode(text: &str) -> Result<String, TargetError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let (high, low) = (bytes.next().and_then(hex), bytes.next().and_then(hex));
            high.zip(low)
                .map(|(high, low)| high << 4 | low)
                .filter(|&byte| byte != 0)
                .ok_or(ESCAPES)?
        } else {
            byte
        });
    }
    String::from_utf8(decoded).map_err(|_| ESCAPES)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn keywords(text: &str) -> Result<Pairs, TargetError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or(NEITHER)?;
        let (value, after) = value(after.trim_start())?;
        let name = name.trim_end();
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') || name.is_empty()
        {
            return Err(NEITHER);
        }
        pairs.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// Splits off a value, plain or in single quotes, with backslash escapes.
fn value(text: &str) -> Result<(String, &str), TargetError> {
    let (quoted, text) = text.strip_prefix('\'').map_or((false, text), |text| (true, text));
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.extend(chars.next().map(|(_, char)| char)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            char if !quoted && char.is_whitespace() => return Ok((value, &text[at..])),
            char => value.push(char),
        }
    }
    if quoted { Err(QUOTE) } else { Ok((value, "")) }
}
