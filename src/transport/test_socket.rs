//! A socket for tests that takes what the test lets it take.

use std::io::{self, ErrorKind, Write};

/// Takes at most `step` bytes in one call, and `room` in all.
pub(super) struct TestSocket {
    pub(super) taken: Vec<u8>,
    pub(super) step: usize,
    pub(super) room: usize,
}

impl Default for TestSocket {
    /// Full, until the test makes room.
    fn default() -> Self {
        Self { taken: Vec::new(), step: usize::MAX, room: 0 }
    }
}

impl Write for TestSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.step).min(self.room);
        if taken == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= taken;
        self.taken.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
