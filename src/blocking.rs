//! The one way off the threads that answer: work that waits for a disk or a network, or that computes for milliseconds, runs
//! on the runtime's own threads for it. clippy forbids `spawn_blocking` everywhere else, so that each caller says here what
//! becomes of a panic. Knows nothing of what the work is, and imports nothing of the crate.

#[cfg(test)]
mod tests;

use tokio::task::{JoinError, JoinHandle};

/// Runs `work` and gives what it gave. A panic of `work` goes on in the caller. While the runtime shuts down this never
/// ends, because nobody waits for the answer any more.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match start(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

/// Runs `work` for a caller that goes on after a panic of it, such as a request that then gets an error for an answer. The
/// error is that panic, or that the runtime shuts down.
pub(crate) async fn try_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    start(work).await
}

/// Begins `work` whose end nobody waits for. A panic of it ends nothing but the work.
pub(crate) fn in_background(work: impl FnOnce() + Send + 'static) {
    drop(start(work));
}

#[expect(clippy::disallowed_methods, reason = "this is the one way")]
fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}
