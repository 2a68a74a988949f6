//! The figures of a run, as a row of a table or as JSON.

use serde::Serialize;

use crate::{deliveries::Faults, histogram::Histogram, options::Transport};

/// The header of the table.
pub(crate) const HEAD: &str = "\
| | subscribers | pace | deliveries/s | CPU µs/delivery | cores | joined | bytes | publish to client p50 / p99 / p99.9 ms | commit to client ms | idle bytes/conn | connects/s | CPU µs/connect | lost / repeated / reordered / closed |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// The header of the table of resumed connections.
pub(crate) const HEAD_RESUME: &str = "\
| 100 rounds behind, after a kill | server start to ready | first connect to the last round at the last subscriber | queries | CPU µs/round and subscriber | private memory before | peak memory | faults |
|---|---|---|---|---|---|---|---|";

/// Quantiles of a time, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Times {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// The measurements of one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) target: &'static str,
    pub(crate) transport: Transport,
    pub(crate) conns: usize,
    pub(crate) pace: String,
    pub(crate) deliveries_per_s: f64,
    /// CPU time of the server per delivery.
    pub(crate) cpu_us: f64,
    pub(crate) cores: f64,
    /// Rounds per read of the client.
    pub(crate) joined: f64,
    /// Bytes on the wire per delivery.
    pub(crate) bytes: f64,
    pub(crate) publish_ms: Times,
    pub(crate) commit_ms: Times,
    pub(crate) idle_bytes: f64,
    pub(crate) connects_per_s: f64,
    pub(crate) connect_cpu_us: f64,
    pub(crate) faults: Faults,
}

impl Times {
    pub(crate) fn of(histogram: &Histogram) -> Self {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| histogram.quantile_ms(share));
        Self { p50, p99, p999 }
    }

    pub(crate) fn text(self) -> String {
        format!("{:.2} / {:.2} / {:.2}", self.p50, self.p99, self.p999)
    }
}

impl Outcome {
    /// A row under [`HEAD`].
    pub(crate) fn row(&self) -> String {
        let Faults { lost, repeated, reordered, closed } = self.faults;
        format!(
            "| {} | {} {} | {} | {:.0} | {:.2} | {:.2} | {:.1} | {:.0} | {} | {} | {:.0} | {:.0} | {:.1} | {lost} / {repeated} / {reordered} / {closed} |",
            self.target,
            self.conns,
            self.transport.path(),
            self.pace,
            self.deliveries_per_s,
            self.cpu_us,
            self.cores,
            self.joined,
            self.bytes,
            self.publish_ms.text(),
            self.commit_ms.text(),
            self.idle_bytes,
            self.connects_per_s,
            self.connect_cpu_us,
        )
    }

    /// Prints the outcome as a row or as JSON.
    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
        } else {
            println!("{}", self.row());
        }
        Ok(())
    }
}

/// The median; the lower one of two.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_does_not_depend_on_the_order() {
        assert_eq!(median([5.0, 1.0, 2.0]), 2.0);
        assert!(median([]).is_nan());
    }
}
