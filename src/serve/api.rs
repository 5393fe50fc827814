//! Opens Tollgate's own interface, and keeps its tokens as their file says: read again when it changes, and kept as they
//! were where it can't be read.

use std::{convert::Infallible, fs, path::Path, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    blocking::try_blocking,
    front::{
        api::{Api, Authenticator, CallerLimits, Insight, Tokens},
        envoy,
    },
    limiter::Limiter,
    settings::Settings,
};

/// How often the file is looked at: one small read, which sees every kind of swap.
const CHECK_PERIOD: Duration = Duration::from_secs(1);

/// Longer is no token file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Makes the interface, and what keeps its tokens, if it has any. A token file that is wrong ends the start.
/// `waiting` bounds its checks with whatever else goes the limiter's way to the store.
pub(super) fn open(
    settings: &Settings,
    limiter: &Limiter,
    waiting: Arc<envoy::AdmissionControl>,
    insight: Arc<Insight>,
    ending: &CancellationToken,
) -> anyhow::Result<(Arc<Api>, Option<TokenReloader>)> {
    let reload = settings.api.token_file.as_deref().map(TokenReloader::load).transpose()?;
    let tokens = reload.as_ref().map(|reload| Arc::clone(&reload.tokens));
    let api = Api {
        limiter: limiter.with_notes(),
        admission: waiting,
        store_timeout: settings.decisions.store_timeout,
        default_domain: settings.api.default_domain.as_deref().map(Box::from),
        authenticator: Authenticator::new(tokens, settings.api.checks_are_open),
        caller_limits: CallerLimits::new(settings.api.check_window_max, settings.api.check_new_counters),
        insight,
        ending: ending.clone(),
    };
    Ok((Arc::new(api), reload))
}

/// Looks at the token file for ever.
pub(super) struct TokenReloader {
    file: PathBuf,
    tokens: Arc<ArcSwap<Tokens>>,
    /// Of the last look, good or not, so that each change is tried once.
    text: String,
    logged: String,
}

impl TokenReloader {
    fn load(file: &Path) -> anyhow::Result<TokenReloader> {
        let named = || format!("TOLLGATE_API_TOKEN_FILE: {}", file.display());
        let text = read(file).with_context(named)?;
        let tokens = Tokens::parse(&text).with_context(named)?;
        info!(file = %file.display(), tokens = tokens.len(), "API tokens are in use");
        let tokens = Arc::new(ArcSwap::from_pointee(tokens));
        Ok(TokenReloader { file: file.to_owned(), tokens, text, logged: String::new() })
    }

    pub(super) async fn run(mut self) -> Infallible {
        loop {
            time::sleep(CHECK_PERIOD).await;
            let file = self.file.clone();
            // A task that is lost to the end of the process has nothing to tell.
            let Ok(text) = try_blocking(move || read(&file)).await else { continue };
            match text {
                Ok(text) if text == self.text => self.logged.clear(),
                Ok(text) => {
                    match Tokens::parse(&text) {
                        Ok(tokens) => self.take(tokens),
                        Err(error) => self.keep(error.to_string()),
                    }
                    self.text = text;
                }
                Err(error) => self.keep(format!("{error:#}")),
            }
        }
    }

    fn take(&mut self, tokens: Tokens) {
        info!(file = %self.file.display(), tokens = tokens.len(), "reloaded API tokens");
        self.tokens.store(Arc::new(tokens));
        self.logged.clear();
    }

    fn keep(&mut self, error: String) {
        if error != self.logged {
            warn!(file = %self.file.display(), error, "can't use the new API tokens: the last good ones stay in force");
            self.logged = error;
        }
    }
}

/// Not read in parts: a file of a few lines is replaced, not appended to.
fn read(file: &Path) -> anyhow::Result<String> {
    anyhow::ensure!(fs::metadata(file)?.len() <= FILE_BYTES_MAX, "it has more than {FILE_BYTES_MAX} bytes");
    Ok(fs::read_to_string(file)?)
}
