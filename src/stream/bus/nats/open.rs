//! Opens the log at a start: waits for NATS, and refuses a stream that would lose rounds.

use std::time::Duration;

use super::{
    connect::{BusError, connect},
    options::BusConfig,
    request::Bus,
    stream_config::{Access, StreamConfig},
};
use crate::ops::{backoff::Backoff, telemetry::metrics::Metrics};

/// Connects and checks the stream; returns how long it keeps rounds too. Waits for as long as NATS
/// does not answer.
pub(crate) async fn open(
    config: &BusConfig,
    access: Access,
    metrics: &Metrics,
) -> Result<(Bus, Duration), BusError> {
    let bus = Bus::new(connect(config, metrics).await?, config);
    let (mut backoff, mut is_reported) = (Backoff::default(), false);
    loop {
        let refused = metrics.bus.unauthorized_total.get();
        let error = match StreamConfig::check(&bus, access).await {
            Ok(age) => return Ok((bus, age)),
            Err(error) if !error.is_passing() => return Err(error),
            Err(error) => error,
        };
        // NATS does not answer a request that it refuses.
        if metrics.bus.unauthorized_total.get() > refused {
            return Err(BusError::Forbidden(format!("to read the stream {}", config.stream)));
        }
        if !std::mem::replace(&mut is_reported, true) {
            tracing::warn!(%error, "the stream does not answer; trying again");
        }
        tokio::time::sleep(backoff.delay()).await;
    }
}
