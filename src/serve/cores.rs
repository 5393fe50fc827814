//! The cores: how many there are, what each decides with, and their end.

use std::{convert::Infallible, sync::Arc, thread::available_parallelism};

use anyhow::Context;
use futures_util::future::join_all;
use tokio::{sync::Semaphore, time};
use tonic::service::Routes;

use super::{
    limiting::Limiting,
    listen::{connection::GrpcListener, core::Core, tls::ListenerTls},
    tasks::Tasks,
};
use crate::{front::envoy::CoreAnswers, settings::Settings};

/// Starts a thread for each core. Their connections finish what they have once `connections` stop; a thread that ends
/// before is one of the tasks that ended early.
pub(super) fn start(
    settings: &Settings,
    limiting: &Limiting,
    (others, tls): (&Routes, &Option<ListenerTls>),
    connections: &Tasks,
) -> anyhow::Result<Vec<Core>> {
    let number = settings.process.workers.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    let start = |number| {
        let (limiting, others, tls) = (limiting.clone(), others.clone(), tls.clone());
        let (age, age_grace) = (settings.listeners.max_connection_age, settings.listeners.max_connection_age_grace);
        let (bounds, stop) = (settings.overload, connections.stopping().clone());
        let build = move |tasks: &Tasks| {
            let (rate_limit, _) = limiting.service(tasks);
            let metrics = limiting.metrics;
            let answers = CoreAnswers::new(bounds.client_timeout);
            let other_calls = Arc::new(Semaphore::new(bounds.in_flight_max.min(Semaphore::MAX_PERMITS)));
            tasks.spawn("the end of unread answers", end_untaken(Arc::clone(&answers)));
            #[rustfmt::skip]
            let grpc = GrpcListener { rate_limit, others, metrics, tls, bounds, answers, other_calls, age, age_grace, stop };
            Arc::new(grpc)
        };
        // Its tasks are needed until its last connection has ended, which is after all others were asked to stop.
        Core::start(number, connections.another(), connections.needed("a core's thread"), build)
            .context("a thread can't be started")
    };
    (0..number).map(start).collect()
}

/// Waits until the last connection of every core has ended; `false` where a thread ended otherwise.
pub(super) async fn finish(cores: Vec<Core>) -> bool {
    join_all(cores.into_iter().map(Core::finish)).await.into_iter().all(|finished| finished)
}

/// Ends connections whose answers are not taken in time, for ever.
async fn end_untaken(answers: Arc<CoreAnswers>) -> Infallible {
    loop {
        answers.in_use().await;
        time::sleep(answers.pace()).await;
        answers.step();
    }
}
