//! Hides secrets in the values of settings.

use crate::{cli::commands::env_variable, postgres::target::PgTarget};

/// Shown in place of a secret.
pub(super) const HIDDEN: &str = "***";
/// The ends of the names of variables whose whole value is a secret.
const SECRET_NAMES: [&str; 3] = ["PASSWORD", "SECRET", "TOKEN"];
/// Parts of the names of URL parameters whose values are secrets.
const SECRET_PARAMETERS: [&str; 5] = ["password", "secret", "token", "key", "%"];

/// The value of an option or variable that may be printed, without the secrets in it.
pub(super) fn value(name: &str, value: &str) -> String {
    if SECRET_NAMES.iter().any(|end| name.ends_with(end)) {
        return HIDDEN.to_owned();
    }
    if !value.contains("://") {
        return value.to_owned();
    }
    // Origins and servers may be listed.
    value.split(',').map(url).collect::<Vec<_>>().join(",")
}

/// The value of an option that its declaration hides: of a URL all but the secrets is printed.
pub(super) fn secret(value: &str) -> String {
    let is_postgres = value.starts_with("postgres://") || value.starts_with("postgresql://");
    let looks_like_pairs = value.contains('=') && !value.contains("://");
    if is_postgres || looks_like_pairs {
        return connection_string(value, is_postgres);
    }
    if value.contains("://") {
        return value.split(',').map(url).collect::<Vec<_>>().join(",");
    }
    HIDDEN.to_owned()
}

/// A string that cannot be parsed is hidden: it is unknown which part of it is the password.
fn connection_string(text: &str, is_url: bool) -> String {
    match PgTarget::resolve(Some(text), env_variable) {
        Err(_) => HIDDEN.to_owned(),
        Ok(_) if is_url => url(text),
        // `key = 'value'` pairs: the same as a URL, which has no password.
        Ok(target) => target.to_string(),
    }
}

/// A URL with `***` in place of the password, or of all credentials if they name no user, and of
/// the parameters that are secrets.
fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    // A password may have a `?`, a `#` and an `@`, but no `/`: see `postgres::target::syntax`.
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (credentials, place) = match authority.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials), place),
        None => (None, authority),
    };
    let credentials = credentials.map(|text| match text.split_once(':') {
        Some((user, _)) => format!("{user}:{HIDDEN}@"),
        // A name alone is a user to PostgreSQL, but a token to NATS.
        None if scheme.starts_with("postgres") => format!("{text}@"),
        None => format!("{HIDDEN}@"),
    });
    let place = format!("{place}{path}");
    let place = match place.split_once('?') {
        Some((place, query)) => {
            format!("{place}?{}", query.split('&').map(parameter).collect::<Vec<_>>().join("&"))
        }
        None => place,
    };
    format!("{scheme}://{}{place}", credentials.unwrap_or_default())
}

fn parameter(pair: &str) -> String {
    let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
    let lower = name.to_lowercase();
    // `sslkey` names a file, whose path is no secret.
    let is_secret = SECRET_PARAMETERS.iter().any(|part| lower.contains(part)) && lower != "sslkey";
    if is_secret { format!("{name}={HIDDEN}") } else { pair.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_urls_are_hidden() {
        for (given, printed) in [
            ("postgres://ada:open@db:5432/game", "postgres://ada:***@db:5432/game"),
            (
                "postgres://ada:o?p@n@db/game?sslmode=require",
                "postgres://ada:***@db/game?sslmode=require",
            ),
            (
                "postgres://ada@db/game?password=open&sslcert=/c&sslkey=/k",
                "postgres://ada@db/game?password=***&sslcert=/c&sslkey=/k",
            ),
            (
                "postgres://db/game?user=ada&pass%77ord=open",
                "postgres://db/game?user=ada&pass%77ord=***",
            ),
            ("postgresql://ada@db", "postgresql://ada@db"),
            ("host=db user=ada password='o p' dbname=game", "postgres://ada@db:5432/game"),
            ("nats://open@one:4222,nats://bob:open@two", "nats://***@one:4222,nats://bob:***@two"),
            ("postgres://ada:op/en@db/game", "***"),
            ("open", "***"),
        ] {
            assert_eq!(secret(given), printed);
        }
    }

    #[test]
    fn a_password_of_its_own_is_hidden_and_other_values_are_not() {
        assert_eq!(value("PGPASSWORD", "open"), "***");
        assert_eq!(value("DATASTREAM_AUTH_SECRET", "open"), "***");
        assert_eq!(value("DATASTREAM_HISTORY", "1024"), "1024");
        let origins = "https://one.example,https://two.example";
        assert_eq!(value("DATASTREAM_ALLOWED_ORIGINS", origins), origins);
        assert_eq!(value("DATASTREAM_URL", "http://a:open@host"), "http://a:***@host");
    }
}
