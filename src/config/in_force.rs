//! The values of settings that are not set and whose default depends on the machine, or on others.

use super::{
    NodeName,
    access::{CLAIM, LEEWAY},
    options::cores,
};
use crate::ops::memory_budget;

/// The value that is in force for a variable that is not set; `None` if there is none.
pub(crate) fn value(variable: &str) -> Option<String> {
    match variable {
        "DATASTREAM_MEMORY" => Some(format!("{}MiB", memory_budget::default_limit() >> 20)),
        "DATASTREAM_SHARDS" => Some(cores().to_string()),
        "DATASTREAM_NODE" => Some(NodeName::of_host().to_string()),
        "DATASTREAM_LISTEN_URL" => Some("as DATABASE_URL".to_owned()),
        "DATASTREAM_AUTH_CLAIM" => Some(CLAIM.to_owned()),
        "DATASTREAM_AUTH_LEEWAY" => Some(format!("{}s", LEEWAY.as_secs())),
        _ => None,
    }
}
