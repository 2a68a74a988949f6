//! The standard `process_…` metrics, read from `/proc` at each scrape (Linux only).
//!
//! Names and meanings: Prometheus, "Writing client libraries", process metrics.

use procfs::{WithCurrentSystemInfo, process::Process};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::MetricType,
};

/// Reads the process metrics at each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        match read() {
            Ok(values) => write(encoder, &values),
            // There is no /proc, or the process may not read it: the metrics are absent.
            Err(_) => Ok(()),
        }
    }
}

/// Name, help, whether it is a counter, value.
type Value = (&'static str, &'static str, bool, f64);

#[allow(clippy::cast_precision_loss, reason = "metrics are floats; 2^53 bytes are not reached")]
fn read() -> procfs::ProcResult<Vec<Value>> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = procfs::ticks_per_second() as f64;
    let cpu = (stat.utime + stat.stime) as f64 / ticks;
    let started = procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks;
    let resident = stat.rss_bytes().get() as f64;
    let files_max = match process.limits()?.max_open_files.soft_limit {
        procfs::process::LimitValue::Value(files) => files as f64,
        procfs::process::LimitValue::Unlimited => f64::INFINITY,
    };
    Ok(vec![
        ("process_cpu_seconds", "User and system CPU time spent", true, cpu),
        ("process_start_time_seconds", "Start, in unix seconds", false, started),
        ("process_resident_memory_bytes", "Resident memory", false, resident),
        ("process_virtual_memory_bytes", "Virtual memory", false, stat.vsize as f64),
        ("process_open_fds", "Open file descriptors", false, process.fd_count()? as f64),
        ("process_max_fds", "Most open file descriptors", false, files_max),
        ("process_threads", "Threads", false, stat.num_threads as f64),
    ])
}

fn write(mut encoder: DescriptorEncoder<'_>, values: &[Value]) -> Result<(), std::fmt::Error> {
    for &(name, help, rises, value) in values {
        let kind = if rises { MetricType::Counter } else { MetricType::Gauge };
        let metric = encoder.encode_descriptor(name, help, None, kind)?;
        Sample { rises, value }.encode(metric)?;
    }
    Ok(())
}

struct Sample {
    rises: bool,
    value: f64,
}

impl EncodeMetric for Sample {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        if self.rises {
            encoder.encode_counter::<[(&str, &str); 0], _, u64>(&self.value, None)
        } else {
            encoder.encode_gauge(&self.value)
        }
    }

    fn metric_type(&self) -> MetricType {
        if self.rises { MetricType::Counter } else { MetricType::Gauge }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_metrics_contain_memory_files_and_start_time() {
        let values = read().expect("Linux has /proc");
        let value = |wanted| values.iter().find(|value| value.0 == wanted).map(|value| value.3);
        assert!(value("process_resident_memory_bytes") > Some(1e6));
        assert!(value("process_open_fds") > Some(2.0));
        assert!(value("process_start_time_seconds") > Some(1.7e9));
    }
}
