//! The settings of our sessions.
//!
//! Role and database may have any: `alter role … set default_transaction_read_only = on`. So every
//! session sets what our statements rely on, and what decides the text of extras.

use super::target::PgTarget;

/// A setting, by name and value.
type Setting<'a> = (&'a str, &'a str);

/// Set in every session at its start. If it is missing, a pooler refused or ignored our settings,
/// and may give each transaction another session.
pub(crate) const OWN: Setting<'static> = ("datastream.session", "own");

/// The defaults of PostgreSQL, unless the use of the session or the connection string has others.
const DEFAULTS: [Setting<'static>; 4] = [
    ("default_transaction_read_only", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// What no one can override. Catch-up is correct at this isolation level only. Strings, names and
/// row security are as our statements expect. The others decide how values print: extras made of
/// columns have one text on every path.
const FIXED: [Setting<'static>; 12] = [
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    ("standard_conforming_strings", "on"),
    ("quote_all_identifiers", "off"),
    ("row_security", "on"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("xmlbinary", "base64"),
    ("lc_monetary", "C"),
];

/// For our own statements alone. Values of the type regclass print without their schema if the path
/// has it.
pub(crate) const NO_SEARCH_PATH: Setting<'static> = ("search_path", "pg_catalog, pg_temp");

/// Turns off the timeouts that only later versions have (14, 17): a connection that sets an unknown
/// parameter at its start is refused. Does nothing in a session that is another client's next.
pub(crate) const NO_LATER_TIMEOUTS: &str = "select set_config(n, '0', false) \
    from unnest(array['idle_session_timeout', 'transaction_timeout']) n \
    where current_setting(n, true) <> '0' and current_setting('datastream.session', true) = 'own'";

/// The settings of a session, in the order in which they apply.
#[derive(Clone, Debug)]
pub(crate) struct SessionSettings<'a>(Vec<Setting<'a>>);

impl<'a> SessionSettings<'a> {
    /// With those of the use, unless the connection string overrides them.
    pub(crate) fn of(target: &'a PgTarget, used: &[Setting<'a>]) -> Self {
        let asked = |(name, _): &Setting<'a>| target.read_write && *name == DEFAULTS[0].0;
        let used: Vec<_> = used.iter().filter(|setting| !asked(setting)).copied().collect();
        Self::ordered(&[defaults(target), &used, &given(target)])
    }

    /// With those of the use, whatever the connection string has.
    pub(crate) fn insisting(
        target: &'a PgTarget,
        preferred: &[Setting<'a>],
        used: &[Setting<'a>],
    ) -> Self {
        Self::ordered(&[defaults(target), preferred, &given(target), used])
    }

    fn ordered(groups: &[&[Setting<'a>]]) -> Self {
        Self(groups.iter().copied().chain([&FIXED[..]]).flatten().copied().collect())
    }

    /// For the start of a connection.
    pub(crate) fn at_start(mut self) -> Vec<Setting<'a>> {
        self.0.push(OWN);
        self.0
    }

    /// The statements that set them for the session, after its start.
    pub(crate) fn set_session(&self) -> String {
        self.statements("set session")
    }

    /// The statements that begin a transaction with them, in a session that may be anybody's.
    pub(crate) fn begin(&self, access: Access) -> String {
        let access = match access {
            Access::Read => "",
            Access::Write => ", read write",
        };
        format!("begin isolation level read committed{access}; {}", self.statements("set local"))
    }

    fn statements(&self, set: &str) -> String {
        let quoted = |value: &str| value.replace('\'', "''");
        let lists = |name: &str| matches!(name, "search_path" | "DateStyle");
        let statement = |(name, value): &Setting<'_>| match lists(name) {
            true => format!("{set} {name} = {value}"),
            false => format!("{set} {name} = '{}'", quoted(value)),
        };
        self.0.iter().map(statement).collect::<Vec<_>>().join("; ")
    }
}

/// Whether a transaction writes. On a standby none may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It reads only.
    Read,
    /// It writes, even if the role's transactions are read-only by default.
    Write,
}

/// `target_session_attrs=read-write` asks whether transactions are read-only by default, as libpq does:
/// a server that became read-only must show it.
fn defaults(target: &PgTarget) -> &'static [Setting<'static>] {
    if target.read_write { &DEFAULTS[1..] } else { &DEFAULTS }
}

fn given(target: &PgTarget) -> Vec<Setting<'_>> {
    target.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(options: &str) -> PgTarget {
        let text = format!("postgres://u@h/db?options={options}");
        PgTarget::resolve(Some(&text), |_| None).expect("a target")
    }

    fn value(settings: &SessionSettings<'_>, wanted: &str) -> Option<String> {
        let named = settings.0.iter().filter(|(name, _)| *name == wanted);
        named.map(|(_, value)| (*value).to_owned()).next_back()
    }

    #[test]
    fn the_connection_string_overrides_limits_but_not_what_decides_the_text() {
        let target = target("-c%20statement_timeout%3D7s%20-c%20TimeZone%3DAsia/Tokyo");
        let settings = SessionSettings::of(&target, &[("statement_timeout", "10s")]);
        assert_eq!(value(&settings, "statement_timeout").as_deref(), Some("7s"));
        assert_eq!(value(&settings, "TimeZone").as_deref(), Some("UTC"));
        assert_eq!(value(&settings, "default_transaction_read_only").as_deref(), Some("off"));
        let used = [("statement_timeout", "60s"), ("default_transaction_read_only", "on")];
        let settings = SessionSettings::insisting(&target, &[], &used);
        assert_eq!(value(&settings, "statement_timeout").as_deref(), Some("60s"));
        assert_eq!(value(&settings, "default_transaction_read_only").as_deref(), Some("on"));
    }

    #[test]
    fn no_session_that_asks_for_a_writable_server_is_made_read_only() {
        let text = "postgres://u@h/db?target_session_attrs=read-write";
        let target = PgTarget::resolve(Some(text), |_| None).expect("a target");
        let used = [("default_transaction_read_only", "on"), ("jit", "off")];
        let settings = SessionSettings::of(&target, &used);
        assert_eq!(value(&settings, "default_transaction_read_only"), None);
        assert_eq!(value(&settings, "jit").as_deref(), Some("off"));
    }

    #[test]
    fn the_statements_quote_values_and_do_not_mark_the_session_as_own() {
        let target = target("-c%20x.y%3Dit's");
        let settings = SessionSettings::of(&target, &[NO_SEARCH_PATH]);
        let begin = settings.begin(Access::Write);
        assert!(begin.starts_with("begin isolation level read committed, read write; set local "));
        assert!(begin.contains("set local x.y = 'it''s'"), "{begin}");
        assert!(begin.contains("set local search_path = pg_catalog, pg_temp;"), "{begin}");
        assert!(!begin.contains(OWN.0) && !settings.set_session().contains(OWN.0));
        assert_eq!(settings.at_start().last(), Some(&OWN));
    }
}
