//! The stream's settings: made by `bus create`, compared by `bus check` and at each start.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{connect::BusError, request::Bus};
use crate::stream::bus::subject::Subjects;

/// Repetitions are recognized by what they finish; this window is not used, and costs memory.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1);

/// What a stream without an age limit counts as.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why a mirror cannot be appended to.
const MIRROR_IS_READ_ONLY: &str = "it is a mirror, to which nothing can be appended";

/// What a server does with the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It appends: only to the stream itself.
    Append,
    /// It reads: a mirror will do.
    Read,
}

/// What the stream should be.
#[derive(Clone, Debug)]
pub(crate) struct StreamConfig {
    /// Copies of the log.
    pub(crate) replicas: u8,
    /// How long rounds are kept.
    pub(crate) retention: Duration,
}

/// A setting that differs from what is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Its name in the stream's configuration.
    pub(crate) setting: &'static str,
    /// Its value.
    pub(crate) is: String,
    /// What it should be.
    pub(crate) should_be: String,
    /// Whether rounds would be lost with it.
    pub(crate) loses_rounds: bool,
}

#[derive(Debug, Deserialize)]
struct Info {
    config: Value,
}

impl StreamConfig {
    /// The configuration as JSON, for `nats stream add --config`. The first sequence is the time in
    /// microseconds: a stream that was deleted and made again is ahead of every place that an edge
    /// remembers.
    pub(crate) fn json(&self, stream: &str, prefix: &str, now_micros: i64) -> Value {
        let mut config = required(&Subjects::new(prefix));
        config["name"] = json!(stream);
        config["storage"] = json!("file");
        config["num_replicas"] = json!(self.replicas);
        config["max_age"] = json!(nanos(self.retention));
        config["duplicate_window"] = json!(nanos(DUPLICATE_WINDOW));
        config["first_seq"] = json!(now_micros.max(1));
        config["max_consumers"] = json!(-1);
        config
    }

    /// Makes the stream; returns whether it did. An equal one that exists is left as it is.
    pub(crate) async fn create(&self, bus: &Bus, now_micros: i64) -> Result<bool, BusError> {
        match bus.call::<Info>("STREAM.INFO", &Value::Null).await {
            Err(BusError::NoStream(_)) => {}
            found => {
                self.accept(bus, &found?.config)?;
                return Ok(false);
            }
        }
        let config = self.json(bus.stream(), bus.prefix(), now_micros);
        let created = bus.call::<Info>("STREAM.CREATE", &config).await?;
        self.accept(bus, &created.config)?;
        Ok(true)
    }

    /// How the stream on NATS differs.
    pub(crate) async fn differences(&self, bus: &Bus) -> Result<Vec<Difference>, BusError> {
        let info: Info = bus.call("STREAM.INFO", &Value::Null).await?;
        Ok(self.compare(bus, &info.config))
    }

    /// Fails if the stream on NATS would lose rounds; returns how long it keeps them.
    pub(crate) async fn check(bus: &Bus, access: Access) -> Result<Duration, BusError> {
        let info: Info = bus.call("STREAM.INFO", &Value::Null).await?;
        let any = Self { replicas: 1, retention: Duration::ZERO };
        match (access, &info.config["mirror"]) {
            (Access::Append, Value::Object(_)) => {
                return Err(wrong_stream(bus, MIRROR_IS_READ_ONLY.to_owned()));
            }
            _ => any.accept(bus, &info.config)?,
        }
        match info.config["max_age"].as_u64().unwrap_or_default() {
            0 => Ok(FOR_EVER),
            nanos => Ok(Duration::from_nanos(nanos)),
        }
    }

    fn accept(&self, bus: &Bus, config: &Value) -> Result<(), BusError> {
        let harmful = self.compare(bus, config).into_iter().find(|it| it.loses_rounds);
        harmful.map_or(Ok(()), |it| {
            Err(wrong_stream(bus, format!("{} is {}, not {}", it.setting, it.is, it.should_be)))
        })
    }

    fn compare(&self, bus: &Bus, config: &Value) -> Vec<Difference> {
        const SETTINGS: [&str; 12] = [
            "subjects",
            "retention",
            "discard",
            "max_msgs",
            "max_bytes",
            "max_msgs_per_subject",
            "max_msg_size",
            "deny_delete",
            "deny_purge",
            "allow_direct",
            "allow_atomic",
            "republish",
        ];
        let required = required(bus.own_subjects());
        let is_mirror = config["mirror"].is_object();
        // A mirror takes what its origin has: it has no subjects, and appends nothing.
        let settings = SETTINGS.into_iter().filter(|setting| {
            !(is_mirror
                && ["subjects", "allow_atomic", "deny_delete", "deny_purge"].contains(setting))
        });
        let mut differences: Vec<_> = settings
            .filter_map(|setting| difference(setting, &config[setting], &required[setting]))
            .collect();
        if is_mirror {
            differences.extend(mirror_differences(bus, &config["mirror"]));
        }
        let (is, wanted) = (config["max_age"].as_u64().unwrap_or_default(), nanos(self.retention));
        if is != 0 && is < wanted {
            differences.push(Difference {
                setting: "max_age",
                is: format!("{is} ns"),
                should_be: format!("{wanted} ns"),
                loses_rounds: false,
            });
        }
        differences
    }
}

fn wrong_stream(bus: &Bus, reason: String) -> BusError {
    BusError::WrongStream { stream: bus.stream().to_owned(), reason }
}

/// A mirror must be of the whole log: of the stream of this name, which `bus create` makes.
fn mirror_differences(bus: &Bus, mirror: &Value) -> Vec<Difference> {
    let parts = [
        ("mirror.name", &mirror["name"], json!(bus.stream())),
        ("mirror.filter_subject", &mirror["filter_subject"], Value::Null),
        ("mirror.subject_transforms", &mirror["subject_transforms"], Value::Null),
    ];
    let differs = |(setting, is, should_be): (&'static str, &Value, Value)| {
        let is = if is.as_str() == Some("") { Value::Null } else { is.clone() };
        difference(setting, &is, &should_be)
    };
    parts.into_iter().filter_map(differs).collect()
}

/// The settings without which rounds are lost or do not arrive.
fn required(subjects: &Subjects) -> Value {
    let log = subjects.log();
    json!({
        "subjects": [&log],
        "retention": "limits",
        "discard": "old",
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "deny_delete": true,
        "deny_purge": true,
        "allow_direct": true,
        "allow_atomic": true,
        "republish": { "src": &log, "dest": subjects.live() },
    })
}

fn difference(setting: &'static str, is: &Value, should_be: &Value) -> Option<Difference> {
    let is = normal(setting, is);
    (is != *should_be).then(|| Difference {
        setting,
        is: is.to_string(),
        should_be: should_be.to_string(),
        // Who may delete is a matter of safety, not of the stream's own working.
        loses_rounds: !matches!(setting, "deny_delete" | "deny_purge"),
    })
}

/// NATS leaves out what is false, and adds to `republish` what is not asked for.
fn normal(setting: &str, value: &Value) -> Value {
    match (setting, value) {
        ("republish", Value::Object(_)) => {
            json!({ "src": value["src"], "dest": value["dest"] })
        }
        ("allow_direct" | "allow_atomic" | "deny_delete" | "deny_purge", Value::Null) => {
            json!(false)
        }
        (_, value) => value.clone(),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
