//! `tollgate serve`: settings, logs, signals, and then the service until a signal stops it.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::exit::Exit;
use crate::{
    serve,
    settings::{DIFFERENT_DEFAULTS, Environment, Flags, Settings},
};

pub(super) fn run(flags: &Flags) -> anyhow::Result<Exit> {
    let environment = Environment::of_process();
    let (settings, warnings) = match Settings::read(flags, &environment) {
        Ok(read) => read,
        Err(invalid) => {
            eprintln!("tollgate: {invalid}");
            return Ok(Exit::Failed);
        }
    };
    serve::start_logging(&settings.process)?;
    if environment.is_of_the_reference() {
        info!("{DIFFERENT_DEFAULTS}");
    }
    for warning in warnings {
        warn!("{warning}");
    }
    // This thread only accepts, serves HTTP and reloads; requests are decided on the cores' own.
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let served = runtime.block_on(async {
        let (stop, reload) = (CancellationToken::new(), Arc::new(Notify::new()));
        // Before anything says that it listens: until then a SIGHUP ends the process.
        let signals = Signals::catch()?;
        tokio::select! {
            served = serve::serve(settings, stop.clone(), Arc::clone(&reload)) => served.map(|()| Exit::Done),
            () = signals.handle(&stop, &reload) => Ok(Exit::Failed),
        }
    });
    // What blocks, such as a file system or a name server that hangs, is not waited for.
    runtime.shutdown_timeout(BLOCKING);
    served
}

/// What blocks at the end has so long: files that are being written.
const BLOCKING: Duration = Duration::from_millis(250);

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Turns signals into their meaning: SIGTERM and SIGINT stop, SIGHUP reloads. Ends with the second that stops: whoever
    /// sends it does not want to wait.
    async fn handle(mut self, stop: &CancellationToken, reload: &Notify) {
        loop {
            let signal = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.hangup.recv() => {
                    info!("reloading rules: received SIGHUP");
                    reload.notify_one();
                    continue;
                }
            };
            if stop.is_cancelled() {
                warn!("stopping at once: received {signal} again, requests in flight are abandoned");
                return;
            }
            info!("stopping: received {signal}");
            stop.cancel();
        }
    }
}
