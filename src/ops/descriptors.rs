//! File descriptors: how many connections the limit on open files permits.

/// Connections besides the streams: for reads, health checks and refusals of a full server.
pub(crate) const SPARE_CONNECTIONS: usize = 256;
/// Descriptors other than connections: database, listener, files, runtime.
const OTHER_FILES: usize = 128;

/// Raises the limit on open files as far as permitted. Returns how many streams fit, at most
/// `wanted`.
pub(crate) fn connections_that_fit(wanted: usize) -> usize {
    let Ok(files) = rlimit::increase_nofile_limit(u64::MAX) else { return wanted };
    wanted.min(connections_within(files))
}

/// How many streams fit with this many open files.
pub(crate) fn connections_within(files: u64) -> usize {
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    files.saturating_sub(SPARE_CONNECTIONS + OTHER_FILES).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_the_wanted_number_of_connections_fits() {
        assert_eq!(connections_that_fit(1), 1);
        assert!(connections_that_fit(usize::MAX) >= 1);
    }
}
