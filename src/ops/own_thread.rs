//! A thread for one task.

use std::{io, thread};

use tokio::{runtime::Builder, sync::oneshot};

/// Runs the task and all that it spawns on a thread of its own. The receiver gets the result, or an
/// error if the task panics.
///
/// The workers of the shared runtime serve requests, so a flood of them delays each task there. And a
/// message between two tasks on one thread wakes no other thread.
pub(crate) fn run<T: Send + 'static>(
    name: &str,
    task: impl Future<Output = T> + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (ended, end) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        // The receiver may be gone if the process is about to exit.
        let _ = ended.send(runtime.block_on(task));
    })?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_and_what_it_spawns_run_on_the_named_thread() {
        let name = || thread::current().name().map(str::to_owned);
        #[expect(clippy::disallowed_methods, reason = "the test awaits it")]
        let task = async move { tokio::spawn(async move { name() }).await.expect("a task") };
        let end = run("alone", task).expect("a thread");
        assert_eq!(end.await.expect("a result").as_deref(), Some("alone"));
    }

    #[tokio::test]
    async fn a_panic_ends_the_task_alone() {
        let end = run("panics", async { assert!(thread::panicking(), "on purpose") });
        assert!(end.expect("a thread").await.is_err());
    }
}
