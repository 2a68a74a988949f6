//! Waits with a time limit; a failure names the line of the test.

use std::{fmt::Display, future::Future, panic::Location, time::Duration};

use tokio::time::{MissedTickBehavior, interval, timeout};

/// Longer than any step on a loaded machine. Shorter than a minute, the interval of maintenance: a test
/// must not pass because maintenance did the work.
pub const LIMIT: Duration = Duration::from_secs(40);

/// The future's output; panics with the caller's line after the time limit.
#[track_caller]
pub fn within<F: Future>(what: impl Display, future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    let future = Box::pin(future);
    async move {
        match timeout(LIMIT, future).await {
            Ok(output) => output,
            Err(_) => panic!("{caller}: waited {LIMIT:?} for {what}"),
        }
    }
}

/// Polls until the check returns a value: for states that send no event.
#[track_caller]
pub fn eventually<T, F, L>(what: impl Display, mut look: L) -> impl Future<Output = T>
where
    F: Future<Output = Option<T>>,
    L: FnMut() -> F,
{
    within(what, async move {
        let mut looks = interval(Duration::from_millis(10));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    })
}

/// Tries five times: for behaviour that a stalled machine may hide but cannot fake.
#[track_caller]
pub fn seen_once<L>(what: impl Display, mut look: L) -> impl Future<Output = ()>
where
    L: AsyncFnMut() -> bool,
{
    let caller = Location::caller();
    async move {
        for _ in 0..5 {
            if look().await {
                return;
            }
        }
        panic!("{caller}: not seen in five tries: {what}");
    }
}

/// Spawns a task that runs until the test's runtime ends.
#[expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]
pub fn beside<F>(task: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(task)
}
