//! Keeps credentials of AWS at hand: fetches them from wherever AWS' own tools find them (the environment, a web
//! identity's file, a container's or an instance's metadata) and renews them well before they expire. While they can't be
//! renewed, those at hand serve for as long as they hold. It doesn't know what they sign.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use rand::Rng as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::token::Signer;
use crate::clock;

/// Credentials are renewed so long before they expire. AWS has new ones by then.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// Shortest time between two fetches that succeed.
const RENEW_MIN: Duration = Duration::from_secs(10);

/// Credentials that don't expire are read again after so long: a file may have new ones.
const REREAD_AFTER: Duration = Duration::from_secs(600);

/// Longest that a fetch may take, over all its sources and attempts.
const PATIENCE: Duration = Duration::from_secs(15);

const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// The latest signer, or why there is none; `None` before the first fetch has ended.
type Latest = Option<Result<Signer, String>>;

/// The task that keeps the credentials, which ends with this handle.
pub(super) struct Keeper {
    latest: watch::Receiver<Latest>,
    task: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    pub(super) fn start(region: Option<String>) -> Keeper {
        let (sender, latest) = watch::channel(None);
        Keeper { latest, task: tokio::spawn(keep(region, sender)) }
    }

    /// The signer at hand, or why there is none. Waits up to `patience` for the first.
    pub(super) async fn signer(&self, patience: Duration) -> Result<Signer, String> {
        let mut latest = self.latest.clone();
        let known = timeout(patience, latest.wait_for(Option::is_some)).await;
        let known = known.map_err(|_| format!("their source has not answered within {patience:?}"))?;
        let known = known.map_err(|_| "the task that fetches them has ended")?.clone();
        let signer = known.unwrap_or_else(|| Err("none were fetched".to_owned()))?;
        match left(&signer) {
            Some(left) if left.is_zero() => Err("they have expired and could not be renewed".to_owned()),
            _ => Ok(signer),
        }
    }
}

async fn keep(region: Option<String>, latest: watch::Sender<Latest>) {
    let (mut config, mut backoff, mut is_failing) = (None, BACKOFF_MIN, false);
    loop {
        let fetched = timeout(PATIENCE, fetch(&mut config, region.as_deref())).await;
        let wait = match fetched.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))) {
            Ok(signer) => {
                if std::mem::take(&mut is_failing) {
                    tracing::info!("the credentials of AWS are fetched again");
                }
                backoff = BACKOFF_MIN;
                let left = left(&signer).map(|left| left.saturating_sub(RENEW_BEFORE).max(RENEW_MIN));
                latest.send_replace(Some(Ok(signer)));
                left.unwrap_or(REREAD_AFTER)
            }
            Err(error) => {
                let left = latest.borrow().as_ref().and_then(|known| left(known.as_ref().ok()?)).unwrap_or_default();
                if !std::mem::replace(&mut is_failing, true) {
                    let left_s = left.as_secs();
                    tracing::warn!(left_s, %error, "can't fetch the credentials of AWS, retrying; those at hand serve as long as they hold");
                }
                if left.is_zero() {
                    latest.send_replace(Some(Err(error)));
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
                backoff
            }
        };
        let wait = wait.mul_f64(rand::rng().random_range(0.8..1.0));
        tokio::time::sleep(wait).await;
    }
}

/// How long the credentials still hold; `None` for ever.
fn left(signer: &Signer) -> Option<Duration> {
    let expiry = signer.credentials.expiry()?;
    Some(expiry.duration_since(clock::system_time(clock::now())).unwrap_or_default())
}

async fn fetch(config: &mut Option<SdkConfig>, region: Option<&str>) -> Result<Signer, String> {
    let config = match config {
        Some(config) => config,
        None => config.insert(load(region).await),
    };
    let provider = config.credentials_provider().ok_or("no source of credentials is known")?;
    let credentials = provider.provide_credentials().await.map_err(|error| with_causes(&error))?;
    let region = config.region().ok_or("no region is known: set REDIS_AWS_IAM_REGION or AWS_REGION")?;
    Ok(Signer { credentials, region: region.to_string() })
}

/// The sources, in the order of AWS' own tools.
async fn load(region: Option<&str>) -> SdkConfig {
    let client = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(client);
    match region {
        Some(region) => loader.region(Region::new(region.to_owned())).load().await,
        None => loader.load().await,
    }
}

/// An error of AWS' crates says what it is about, and its causes what happened.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
