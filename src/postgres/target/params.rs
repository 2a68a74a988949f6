//! Connection parameters by name, from a URL, `key=value` pairs or the `PG*` variables.

use std::{collections::BTreeMap, time::Duration};

use super::{
    ChannelBinding, Keepalives, PgHost, SslMode, TargetError, Tls, defaults,
    known::{self, Rule},
    syntax,
};

/// The parameters that are set, and the variables that set them.
#[derive(Debug, Default)]
pub(super) struct Params {
    values: BTreeMap<&'static str, String>,
    from_environment: BTreeMap<&'static str, &'static str>,
}

impl Params {
    /// Reads the string, then the environment for parameters that the string does not set.
    pub(super) fn read(
        text: &str,
        env: &impl Fn(&str) -> Option<String>,
    ) -> Result<Self, TargetError> {
        let mut params = Self::default();
        for (name, value) in syntax::pairs(text)? {
            params.set(&name, value)?;
        }
        for known in known::PARAMETERS {
            if known.variable.is_empty() {
                continue;
            }
            let value = env(known.variable).filter(|value| !value.is_empty());
            if let (Some(value), false) = (value, params.values.contains_key(known.name)) {
                params.from_environment.insert(known.name, known.variable);
                params.set(known.name, value)?;
            }
        }
        Ok(params)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), TargetError> {
        // JDBC's spelling, which libpq accepts too.
        let (name, value) = match (name, value.as_str()) {
            ("ssl", "true") => ("sslmode", "require".to_owned()),
            _ => (name, value),
        };
        let known = known::find(name).ok_or_else(|| TargetError::Unknown(name.to_owned()))?;
        if value.is_empty() {
            return Ok(());
        }
        match known.rule {
            Rule::Refused(reason) => {
                return Err(TargetError::Unsupported { name: self.name(known.name), reason });
            }
            Rule::OneOf(values, expected) if !values.contains(&value.as_str()) => {
                return Err(self.invalid(known.name, expected));
            }
            _ => self.values.insert(known.name, value),
        };
        Ok(())
    }

    /// The value, if it is set.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The name for errors: the parameter, or the variable that set it.
    pub(super) fn name(&self, name: &str) -> String {
        self.from_environment.get(name).copied().unwrap_or(name).to_owned()
    }

    fn invalid(&self, name: &str, expected: &'static str) -> TargetError {
        TargetError::Value { name: self.name(name), expected }
    }

    fn list(&self, name: &str) -> Vec<&str> {
        self.get(name).map(|list| list.split(',').map(str::trim).collect()).unwrap_or_default()
    }

    /// The servers, in the order named.
    pub(super) fn hosts(&self) -> Result<Vec<PgHost>, TargetError> {
        let (names, addresses, ports) =
            (self.list("host"), self.list("hostaddr"), self.list("port"));
        let count = names.len().max(addresses.len()).max(1);
        if names.len() > 1 && !addresses.is_empty() && addresses.len() != names.len() {
            return Err(self.invalid("hostaddr", "a list with one address for each host"));
        }
        if ports.len() > 1 && ports.len() != count {
            return Err(self.invalid("port", "one port, or one for each host"));
        }
        (0..count).map(|index| self.host(&names, &addresses, &ports, index)).collect()
    }

    fn host(
        &self,
        names: &[&str],
        addresses: &[&str],
        ports: &[&str],
        index: usize,
    ) -> Result<PgHost, TargetError> {
        let port = ports.get(index).or(ports.first()).copied().filter(|port| !port.is_empty());
        let port = port.map_or(Ok(5432), str::parse).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| self.invalid("port", syntax::PORT))?;
        let given = |list: &[&str]| {
            list.get(index).copied().filter(|item| !item.is_empty()).map(str::to_owned)
        };
        let address = given(addresses).map(|address| address.parse()).transpose();
        let address = address.map_err(|_| self.invalid("hostaddr", "an IP address"))?;
        let name = given(names).or_else(|| given(addresses));
        let name = name.unwrap_or_else(|| defaults::host(port).to_owned());
        Ok(PgHost { name, address, port, password: None })
    }

    /// Encryption. As in libpq, `require` verifies the chain if a root certificate exists.
    pub(super) fn tls(&self, env: &impl Fn(&str) -> Option<String>) -> Result<Tls, TargetError> {
        let system = self.get("sslrootcert") == Some("system");
        let roots = match self.get("sslrootcert") {
            Some("system") => None,
            Some(file) => Some(file.into()),
            None => defaults::home_file(env, "root.crt"),
        };
        let mode = match self.get("sslmode") {
            None if system => SslMode::VerifyFull,
            Some("verify-full") => SslMode::VerifyFull,
            _ if system => {
                return Err(self.invalid("sslmode", "verify-full with sslrootcert=system"));
            }
            Some("disable") => SslMode::Disable,
            Some("allow") => SslMode::Allow,
            Some("require") if roots.is_none() => SslMode::Require,
            Some("require" | "verify-ca") => SslMode::VerifyCa,
            _ => SslMode::Prefer,
        };
        Ok(Tls { mode, roots, identity: self.identity(env)? })
    }

    fn identity(
        &self,
        env: &impl Fn(&str) -> Option<String>,
    ) -> Result<Option<(std::path::PathBuf, std::path::PathBuf)>, TargetError> {
        let file = |parameter, name| match self.get(parameter) {
            Some(file) => Some(file.into()),
            None => defaults::home_file(env, name),
        };
        match (file("sslcert", "postgresql.crt"), file("sslkey", "postgresql.key")) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(self.invalid("sslkey", "given together with sslcert")),
            (None, Some(_)) => Err(self.invalid("sslcert", "given together with sslkey")),
        }
    }

    /// Keep-alives, or `None` if they are off.
    pub(super) fn keepalives(&self) -> Result<Option<Keepalives>, TargetError> {
        let default = defaults::KEEPALIVES;
        let count = self.number("keepalives_count", u64::from(default.count))?;
        let keepalives = Keepalives {
            idle: self.seconds("keepalives_idle", default.idle)?,
            interval: self.seconds("keepalives_interval", default.interval)?,
            count: u32::try_from(count).unwrap_or(u32::MAX),
        };
        Ok((self.get("keepalives") != Some("0")).then_some(keepalives))
    }

    /// Whether authentication is bound to the TLS session.
    pub(super) fn channel_binding(&self) -> ChannelBinding {
        match self.get("channel_binding") {
            Some("disable") => ChannelBinding::Disable,
            Some("require") => ChannelBinding::Require,
            _ => ChannelBinding::Prefer,
        }
    }

    /// A number of seconds. Zero means the default, as in libpq.
    pub(super) fn seconds(&self, name: &str, default: Duration) -> Result<Duration, TargetError> {
        self.number(name, default.as_secs()).map(|number| match number {
            0 => default,
            seconds => Duration::from_secs(seconds),
        })
    }

    /// A number of milliseconds.
    pub(super) fn millis(&self, name: &str, default: Duration) -> Result<Duration, TargetError> {
        let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        self.number(name, default).map(Duration::from_millis)
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, TargetError> {
        let number = self.get(name).map_or(Ok(default), |text| text.trim().parse());
        number.map_err(|_| self.invalid(name, "a whole number of 0 or more"))
    }
}
