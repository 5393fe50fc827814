//! The parts that tests from outside are made of: real processes on free ports, an app to protect, clients. Everything
//! ends with the test that started it, and what a failed test's processes logged is printed. It knows Tollgate only
//! as its users do: by flags, environment, listeners and answers.

mod app;
mod authority;
mod envoy;
mod grpc;
mod http;
mod load;
mod process;
pub(crate) mod raw_http2;
mod rules_dir;
mod tollgate;

use std::{future::Future, time::Duration};

pub(crate) use app::App;
pub(crate) use authority::{Authority, encrypted, place, self_signed};
pub(crate) use envoy::{Envoy, OnFailure, envoy_binary, example_envoy_config};
pub(crate) use grpc::{Rls, channel, descriptor, request};
pub(crate) use http::{Answer, get, post, send, send_bytes};
pub(crate) use load::Load;
pub(crate) use process::Process;
pub(crate) use raw_http2::RawHttp2;
pub(crate) use rules_dir::RulesDir;
pub(crate) use tollgate::{ONE_MAY_WAIT, REDIS_CONNECTIONS, Tollgate, run_to_end};

/// How long anything may take that happens at once on an idle machine: long, because two cores run every test together,
/// and only a failing test waits for its end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `work` beside the test's own thread, which goes on with what else the test has begun.
#[expect(clippy::disallowed_methods, reason = "a test ends with a panic of its work, whichever thread that was on")]
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

/// Asks again until `look` gives an answer; panics with `what` when [`PATIENCE`] is over.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}
