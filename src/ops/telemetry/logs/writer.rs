//! The queue between the program and stderr.
//!
//! stderr may be a pipe that nobody reads, a full disk, or a slow collector. A thread of its own
//! writes there, so that nothing else waits. The queue to it is bounded; lines beyond it are dropped
//! and counted.

use std::{
    io::{self, Write},
    sync::LazyLock,
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

/// The most bytes in the queue: what a burst of some thousand lines takes.
const QUEUE_BYTES: i64 = 1024 * 1024;
/// A line counts as at least this many bytes, so that the library's queue, which counts lines, is
/// never full first: it would drop lines without telling.
const LINE_BYTES_MIN: i64 = 128;
/// Room for the library's own messages.
const MESSAGES_MAX: usize = (QUEUE_BYTES / LINE_BYTES_MIN) as usize + 16;

/// Lines that were dropped. One for the process, because logging starts before the metrics.
static DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// The bytes in the queue, likewise.
static QUEUED: LazyLock<Gauge> = LazyLock::new(Gauge::default);

/// The bytes of lines that wait.
pub(in crate::ops::telemetry) fn queued_bytes() -> Gauge {
    QUEUED.clone()
}

/// The counter of dropped lines.
pub(in crate::ops::telemetry) fn dropped_lines() -> Counter {
    DROPPED.clone()
}

/// Puts lines into the queue. Never waits. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct QueueWriter {
    lines: NonBlocking,
    queued: Gauge,
}

/// Takes lines out of the queue.
struct QueueReader<W> {
    output: W,
    queued: Gauge,
}

/// Starts the thread that writes to `output`. The guard writes the rest of the queue when it is
/// dropped, for at most a second. `queued` shows the bytes in the queue.
pub(super) fn start(
    output: impl Write + Send + 'static,
    queued: Gauge,
) -> (QueueWriter, WorkerGuard) {
    let reader = QueueReader { output, queued: queued.clone() };
    let builder = NonBlockingBuilder::default().lossy(true).thread_name("log");
    let (lines, guard) = builder.buffered_lines_limit(MESSAGES_MAX).finish(reader);
    (QueueWriter { lines, queued }, guard)
}

fn cost(line: &[u8]) -> i64 {
    i64::try_from(line.len()).unwrap_or(i64::MAX).max(LINE_BYTES_MIN)
}

impl Write for QueueWriter {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if line.is_empty() {
            return Ok(0);
        }
        let before = self.queued.inc_by(cost(line));
        if before.saturating_add(cost(line)) > QUEUE_BYTES {
            self.queued.dec_by(cost(line));
            DROPPED.inc();
            return Ok(line.len());
        }
        self.lines.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for QueueWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl<W: Write> Write for QueueReader<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    /// The library calls this once for each line. A line that cannot be written (a full disk, a
    /// closed pipe) is lost: logging that would fail as well.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        if self.output.write_all(line).is_err() {
            DROPPED.inc();
        }
        self.queued.dec_by(cost(line));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.output.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    };

    use parking_lot::Mutex;

    use super::*;

    /// An output that takes a line only after a permit.
    struct Gate {
        permits: Receiver<()>,
        lines: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.permits.recv();
            self.lines.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Gate, Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (permit, permits) = channel();
        let lines = Arc::<Mutex<Vec<u8>>>::default();
        (Gate { permits, lines: Arc::clone(&lines) }, permit, lines)
    }

    #[test]
    fn lines_beyond_the_queue_are_dropped_and_the_others_are_written_at_the_end() {
        let (output, permit, lines) = gate();
        let (mut writer, guard) = start(output, Gauge::default());
        let line = vec![b'x'; 64 * 1024];
        for _ in 0..100 {
            writer.write_all(&line).expect("never fails");
        }
        assert!(writer.queued.get() > 0 && writer.queued.get() <= QUEUE_BYTES);
        assert!(dropped_lines().get() >= 84);
        drop(permit);
        drop(guard);
        assert_eq!((lines.lock().len() as i64, writer.queued.get()), (QUEUE_BYTES, 0));
    }

    #[test]
    fn short_lines_are_bounded_too() {
        let (output, permit, lines) = gate();
        let (mut writer, guard) = start(output, Gauge::default());
        for _ in 0..20_000 {
            writer.write_all(b"x\n").expect("never fails");
        }
        drop(permit);
        drop(guard);
        assert_eq!(lines.lock().len() as i64, 2 * QUEUE_BYTES / LINE_BYTES_MIN);
    }
}
