//! File descriptors: how many connections the limit on open files permits.

/// Connections besides the streams: for reads, health checks and refusals of a full server.
pub(crate) const SPARE_CONNECTIONS: usize = 256;
/// How many of those stay open at once; the others are being closed.
pub(crate) const SPARE_PENDING: usize = 192;
/// Descriptors other than connections: database, listener, files, runtime.
const OTHER_FILES: usize = 128;

/// The limit on open files that a server needs for itself.
pub(crate) const FILES_MIN: u64 = (SPARE_CONNECTIONS + OTHER_FILES) as u64;

/// The limit on open files is too low for a server.
#[derive(Debug, thiserror::Error)]
#[error(
    "the limit on open files is {0}, and the server needs at least {FILES_MIN}. \
     Raise it (ulimit -n {FILES_MIN}; systemd: LimitNOFILE={FILES_MIN})."
)]
pub(crate) struct TooFewFiles(u64);

/// Raises the limit on open files as far as permitted. Returns how many streams fit, at most
/// `wanted`.
pub(crate) fn connections_that_fit(wanted: usize) -> Result<usize, TooFewFiles> {
    let Ok(files) = rlimit::increase_nofile_limit(u64::MAX) else { return Ok(wanted) };
    if files < FILES_MIN {
        return Err(TooFewFiles(files));
    }
    Ok(wanted.min(connections_within(files)))
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
        assert_eq!(connections_that_fit(1).expect("enough files"), 1);
        assert!(connections_that_fit(usize::MAX).expect("enough files") >= 1);
    }
}
