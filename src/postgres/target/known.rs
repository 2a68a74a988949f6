//! The connection parameters of libpq, with their variables and our support for each.

/// The support for a parameter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// Used.
    Used,
    /// Accepted, without effect.
    Ignored,
    /// Accepted with these values. The text lists them for an error.
    OneOf(&'static [&'static str], &'static str),
    /// Refused for this reason. Ignoring it would be wrong, often for security.
    Refused(&'static str),
}

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) variable: &'static str,
    pub(super) rule: Rule,
}

/// Looks a parameter up by its name.
pub(super) fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|known| known.name == name)
}

const fn known(name: &'static str, variable: &'static str, rule: Rule) -> Parameter {
    Parameter { name, variable, rule }
}

const SERVICE: &str = "put the service's parameters into the URL";
const REVOCATION: &str = "remove it, revocation lists are not checked";

/// Every parameter up to PostgreSQL 18. An empty variable means that it has none.
pub(super) const PARAMETERS: &[Parameter] = &[
    known("host", "PGHOST", Rule::Used),
    known("hostaddr", "PGHOSTADDR", Rule::Used),
    known("port", "PGPORT", Rule::Used),
    known("dbname", "PGDATABASE", Rule::Used),
    known("user", "PGUSER", Rule::Used),
    known("password", "PGPASSWORD", Rule::Used),
    known("passfile", "PGPASSFILE", Rule::Used),
    known("options", "PGOPTIONS", Rule::Used),
    known("application_name", "PGAPPNAME", Rule::Used),
    known("fallback_application_name", "", Rule::Ignored),
    known("connect_timeout", "PGCONNECT_TIMEOUT", Rule::Used),
    known("keepalives", "", Rule::OneOf(&["0", "1"], "0 or 1")),
    known("keepalives_idle", "", Rule::Used),
    known("keepalives_interval", "", Rule::Used),
    known("keepalives_count", "", Rule::Used),
    known("tcp_user_timeout", "", Rule::Used),
    known(
        "sslmode",
        "PGSSLMODE",
        Rule::OneOf(
            &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
            "disable, allow, prefer, require, verify-ca or verify-full",
        ),
    ),
    known("sslrootcert", "PGSSLROOTCERT", Rule::Used),
    known("sslcert", "PGSSLCERT", Rule::Used),
    known("sslkey", "PGSSLKEY", Rule::Used),
    known("sslpassword", "", Rule::Refused("use a key file without a passphrase")),
    known("sslcrl", "PGSSLCRL", Rule::Refused(REVOCATION)),
    known("sslcrldir", "PGSSLCRLDIR", Rule::Refused(REVOCATION)),
    known("sslcertmode", "PGSSLCERTMODE", Rule::OneOf(&["allow"], "allow")),
    known("sslnegotiation", "PGSSLNEGOTIATION", Rule::OneOf(&["postgres"], "postgres")),
    known("sslcompression", "PGSSLCOMPRESSION", Rule::Ignored),
    known("sslsni", "PGSSLSNI", Rule::Ignored),
    known(
        "ssl_min_protocol_version",
        "PGSSLMINPROTOCOLVERSION",
        Rule::OneOf(&["TLSv1", "TLSv1.1", "TLSv1.2"], "TLSv1.2 or lower"),
    ),
    known(
        "ssl_max_protocol_version",
        "PGSSLMAXPROTOCOLVERSION",
        Rule::OneOf(&["TLSv1.3"], "TLSv1.3"),
    ),
    known(
        "channel_binding",
        "PGCHANNELBINDING",
        Rule::OneOf(&["disable", "prefer", "require"], "disable, prefer or require"),
    ),
    known("gssencmode", "PGGSSENCMODE", Rule::OneOf(&["disable", "prefer"], "disable or prefer")),
    known("krbsrvname", "PGKRBSRVNAME", Rule::Ignored),
    known("gsslib", "PGGSSLIB", Rule::Ignored),
    known("gssdelegation", "PGGSSDELEGATION", Rule::Ignored),
    known(
        "requirepeer",
        "PGREQUIREPEER",
        Rule::Refused("remove it, the server's user is not checked"),
    ),
    known("require_auth", "PGREQUIREAUTH", Rule::Refused("set the method in pg_hba.conf")),
    known(
        "target_session_attrs",
        "PGTARGETSESSIONATTRS",
        Rule::OneOf(&["any", "read-write", "primary"], "any, read-write or primary"),
    ),
    known(
        "load_balance_hosts",
        "PGLOADBALANCEHOSTS",
        Rule::OneOf(&["disable", "random"], "disable or random"),
    ),
    known("client_encoding", "PGCLIENTENCODING", Rule::Ignored),
    known("min_protocol_version", "PGMINPROTOCOLVERSION", Rule::Ignored),
    known("max_protocol_version", "PGMAXPROTOCOLVERSION", Rule::Ignored),
    known("replication", "", Rule::Refused("remove it, no replication connection is used")),
    known("service", "PGSERVICE", Rule::Refused(SERVICE)),
    known("servicefile", "PGSERVICEFILE", Rule::Ignored),
];
