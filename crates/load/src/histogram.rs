//! A histogram of microseconds with a relative error of at most 3 %.

/// Buckets in each doubling: 32 keep the error of a quantile under 1/32.
const STEPS: u64 = 32;
const STEPS_LOG2: u32 = 5;

#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Records a time. A negative one counts as zero: the event happened before the mark.
    pub(crate) fn record(&mut self, micros: i64) {
        let bucket = bucket(u64::try_from(micros).unwrap_or(0));
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// The quantile in milliseconds.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let rank = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return lowest(bucket as u64) as f64 / 1000.0;
            }
        }
        0.0
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let doublings = micros.ilog2() - STEPS_LOG2;
    (u64::from(doublings) * STEPS + (micros >> doublings)) as usize
}

/// The least time in a bucket.
fn lowest(bucket: u64) -> u64 {
    if bucket < 2 * STEPS {
        return bucket;
    }
    let doublings = bucket / STEPS - 1;
    (bucket % STEPS + STEPS) << doublings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_starts_at_most_3_percent_below_its_values() {
        for micros in (0..5_000).chain([1 << 20, (1 << 20) + 1, 123_456_789]) {
            let lowest = lowest(bucket(micros) as u64);
            assert!(lowest <= micros && micros - lowest <= micros / 32, "{micros}: {lowest}");
        }
    }

    #[test]
    fn quantiles_match_those_of_the_sorted_times() {
        let mut histogram = Histogram::default();
        (1..=20).for_each(|micros| histogram.record(micros));
        assert_eq!(histogram.quantile_ms(0.5), 0.010);
        assert_eq!(histogram.quantile_ms(0.99), 0.020);
        assert_eq!(Histogram::default().quantile_ms(0.5), 0.0);
    }
}
