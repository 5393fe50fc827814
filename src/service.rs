//! Envoy's border: protobuf in, the limiter's words in between, protobuf out. The only place but `bench` and `call`
//! that knows the rate limit service's messages.

mod json;
#[cfg(test)]
mod tests;
mod words;

use std::{panic::AssertUnwindSafe, time::Duration};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitRequest, RateLimitResponse, rate_limit_service_server::RateLimitService,
};
use futures_util::FutureExt;
use tonic::{Request, Response, Status, async_trait};

pub use json::{FILE_DESCRIPTORS, JsonError, json_request, json_response};

use crate::{
    clock,
    limiter::{DecideError, Limiter},
    store::StoreError,
};

/// Requests beyond this are refused before they are decoded; 256 descriptors of ordinary size take a tenth of it.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// `envoy.service.ratelimit.v3.RateLimitService`, one per core.
#[derive(Clone)]
pub struct RateLimit {
    limiter: Limiter,
    store_timeout: Duration,
}

impl RateLimit {
    pub fn new(limiter: Limiter, store_timeout: Duration) -> RateLimit {
        RateLimit { limiter, store_timeout }
    }

    /// Decides one request. `allowed` is how long the caller waits, where it says so.
    pub async fn answer(
        &self,
        request: &RateLimitRequest,
        allowed: Option<Duration>,
    ) -> Result<RateLimitResponse, Status> {
        let arrived = clock::instant();
        let metrics = self.limiter.metrics();
        let words = words::request(request).map_err(|status| {
            metrics.invalid();
            status
        })?;
        let timeout = allowed.map_or(self.store_timeout, |allowed| allowed.min(self.store_timeout));
        let decided = self.limiter.decide(&words, clock::now(), (arrived + timeout).into()).await;
        metrics.decision.record(arrived.elapsed());
        match decided {
            Ok(decision) => Ok(words::response(decision)),
            Err(error) => {
                if matches!(error, DecideError::Store(_)) {
                    metrics.failed()
                } else {
                    metrics.invalid()
                }
                Err(error.into())
            }
        }
    }
}

#[async_trait]
impl RateLimitService for RateLimit {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let allowed = grpc_timeout(request.metadata());
        // A panic would end the connection, and with it every other request on it.
        match AssertUnwindSafe(self.answer(request.get_ref(), allowed)).catch_unwind().await {
            Ok(answer) => answer.map(Response::new),
            Err(_) => {
                self.limiter.metrics().panicked();
                Err(Status::unavailable("the decision failed; the service's log says where"))
            }
        }
    }
}

/// The caller's patience (`grpc-timeout`: digits and a unit); what can't be read is no limit, as gRPC has it.
fn grpc_timeout(metadata: &tonic::metadata::MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// What the caller is told. A store that fails is UNAVAILABLE, not UNKNOWN, so that Envoy's `failure_mode_deny`
/// governs; what went wrong in detail is for the log and the metrics.
impl From<DecideError> for Status {
    fn from(error: DecideError) -> Status {
        match error {
            DecideError::Store(StoreError::Overloaded) => Status::resource_exhausted(error.to_string()),
            DecideError::Store(StoreError::Timeout(_)) => Status::unavailable(error.to_string()),
            DecideError::Store(StoreError::Unreachable(_)) => Status::unavailable("the store can't be reached"),
            DecideError::Store(StoreError::Refused(_)) => Status::unavailable("the store refused"),
            DecideError::EmptyDomain
            | DecideError::NoDescriptors
            | DecideError::TextTooLong { .. }
            | DecideError::TooManyCounters => Status::invalid_argument(error.to_string()),
        }
    }
}
