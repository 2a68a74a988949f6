//! How many connections the limit on open files allows.

/// Connections beyond the streams: for reads, health, and for telling others that it is full.
pub(crate) const SPARE_CONNECTIONS: usize = 256;
/// File descriptors that are no connections: database, listener, files, runtime.
const OTHER_FILES: usize = 128;

/// Raises the limit of open files as far as allowed, and says how many streams fit, at most
/// `wanted`.
pub(crate) fn connections_that_fit(wanted: usize) -> usize {
    let Ok(files) = rlimit::increase_nofile_limit(u64::MAX) else { return wanted };
    wanted.min(connections_within(files))
}

/// How many streams so many open files allow.
pub(crate) fn connections_within(files: u64) -> usize {
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    files.saturating_sub(SPARE_CONNECTIONS + OTHER_FILES).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_connections_than_wanted_fit() {
        assert_eq!(connections_that_fit(1), 1);
        assert!(connections_that_fit(usize::MAX) >= 1);
    }
}
