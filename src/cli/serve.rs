//! `tollgate serve`: settings, logs, signals, and then the service until it is told to stop.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    serve,
    settings::{Flags, Settings},
};

pub(super) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let settings = match Settings::resolve(flags) {
        Ok(settings) => settings,
        Err(invalid) => {
            eprintln!("tollgate: {invalid}");
            return Ok(ExitCode::from(2));
        }
    };
    serve::start_logging(&settings.process)?;
    // This thread only accepts, serves HTTP and reloads; requests are decided on the cores' own.
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let (stop, reload) = (CancellationToken::new(), Arc::new(Notify::new()));
        tokio::select! {
            served = serve::serve(settings, stop.clone(), Arc::clone(&reload)) => served,
            listened = signals(&stop, &reload) => listened,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Turns signals into their meaning: SIGTERM and SIGINT stop, SIGHUP reloads. Never ends by itself.
async fn signals(stop: &CancellationToken, reload: &Notify) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => { info!(signal = "SIGTERM", "told to stop"); stop.cancel(); }
            _ = interrupt.recv() => { info!(signal = "SIGINT", "told to stop"); stop.cancel(); }
            _ = hangup.recv() => { info!(signal = "SIGHUP", "told to reload"); reload.notify_one(); }
        }
    }
}
