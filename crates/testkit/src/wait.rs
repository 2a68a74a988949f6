//! Waiting with a limit, told with the line of the test that waited.

use std::{fmt::Display, future::Future, panic::Location, time::Duration};

use tokio::time::{MissedTickBehavior, interval, timeout};

/// Far beyond what anything takes on a loaded machine: it only ends a hopeless wait. Below a minute:
/// what the next round of maintenance would do is not to pass for what was to happen at once.
pub const LIMIT: Duration = Duration::from_secs(40);

/// The future's output, or a failure at the caller's line.
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

/// Looks again and again until there is something: for states that cannot be listened to.
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

/// What a machine that stalls may hide but cannot fake: seen in one try of five, it is so.
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

/// Runs beside the test, as long as the test's runtime does.
#[expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]
pub fn beside<F>(task: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(task)
}
