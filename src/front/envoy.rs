//! The rate limit service: converts Envoy's protobuf to the limiter's types and back. Apart from `bench` and `call` the
//! only place that knows these messages.

mod admission;
mod convert;
mod gzip;
mod headers;
mod json;
mod lenient;
mod metadata;
mod size;
#[cfg(test)]
mod tests;
mod traced;
mod unary;
mod unsent;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use futures_util::FutureExt;
use tonic::Status;

pub use admission::{AdmissionControl, ClientConnection};
pub use json::{FILE_DESCRIPTORS, JsonError, json_request, json_response, read_json_response, write_json_request};
pub use unary::{Call, OtherBody, ResponseBody};
pub use unsent::{ConnectionAnswers, CoreAnswers, RegisteredConnection};

use super::decider::Decider;
use crate::{
    clock,
    limit::{self, Origin},
    limiter::{DecideError, Decision, Limiter},
    privacy::Privacy,
    settings::{OverloadSettings, ResponseSettings},
    store::StoreError,
    trace::{self, Tracer},
};

/// Largest request in bytes; larger ones are refused before they are decoded, as by grpc-go. By default Envoy accepts
/// 60 KiB of headers, and then 69 descriptors may each have the longest of them.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Prefix of the `user-agent` of Tollgate's own tools, whose requests show nothing about how Envoy uses limits.
pub const OWN_TOOLS: &str = "tollgate/";

/// What is known about a request besides its message. By default it isn't from a caller of the rate limit service, and
/// waits for as long as it takes.
#[derive(Clone, Copy, Default)]
pub struct CallContext {
    pub origin: Origin,
    /// How long the caller waits, if it says so.
    pub patience: Option<Duration>,
}

/// `envoy.service.ratelimit.v3.RateLimitService`, one per core.
#[derive(Clone)]
pub struct RateLimit {
    limiter: Limiter,
    store_timeout: Duration,
    /// What answers carry besides the decision, if anything.
    extras: Option<Arc<ResponseSettings>>,
    admission: Arc<AdmissionControl>,
    /// Traces sampled requests, if tracing is on.
    tracer: Option<Arc<Tracer>>,
    /// How traces show values.
    privacy: Privacy,
}

impl RateLimit {
    pub fn new(
        limiter: Limiter,
        store_timeout: Duration,
        responses: &ResponseSettings,
        bounds: &OverloadSettings,
    ) -> RateLimit {
        let extras = (!responses.is_plain()).then(|| Arc::new(responses.clone()));
        let admission = Arc::new(AdmissionControl::new(bounds));
        RateLimit { limiter, store_timeout, extras, admission, tracer: None, privacy: Privacy::default() }
    }

    /// The limiter that decides.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// The bound of requests that wait, for other requests to the same store.
    pub fn admission(&self) -> Arc<AdmissionControl> {
        Arc::clone(&self.admission)
    }

    /// Decides one request.
    pub async fn answer(&self, request: &RateLimitRequest, context: CallContext) -> Result<RateLimitResponse, Status> {
        match self.answer_now_catching(request, context) {
            Some(answer) => answer,
            None => self.answer_later_catching(request, context).await,
        }
    }

    /// As [`RateLimit::answer_now`]. A panic would end the connection, and with it every other request on it.
    fn answer_now_catching(
        &self,
        request: &RateLimitRequest,
        context: CallContext,
    ) -> Option<Result<RateLimitResponse, Status>> {
        let answered = panic::catch_unwind(AssertUnwindSafe(|| self.answer_now(request, context)));
        answered.unwrap_or_else(|_| Some(self.after_panic(request, context)))
    }

    /// As [`RateLimit::answer_later`], likewise.
    async fn answer_later_catching(
        &self,
        request: &RateLimitRequest,
        context: CallContext,
    ) -> Result<RateLimitResponse, Status> {
        let answered = AssertUnwindSafe(self.answer_later(request, context)).catch_unwind().await;
        answered.unwrap_or_else(|_| self.after_panic(request, context))
    }

    /// Answers by the failure policies of the limits after a decision has panicked; with an error, if even that panics.
    fn after_panic(&self, request: &RateLimitRequest, context: CallContext) -> Result<RateLimitResponse, Status> {
        self.limiter.metrics().panicked();
        let by_policy = || self.answer_without_store((request, context.origin), StoreError::Defect, clock::instant());
        panic::catch_unwind(AssertUnwindSafe(by_policy))
            .unwrap_or_else(|_| Err(DecideError::from(StoreError::Defect).into()))
    }

    fn answer_without_store(
        &self,
        (request, origin): (&RateLimitRequest, Origin),
        why: StoreError,
        arrived: Instant,
    ) -> Result<RateLimitResponse, Status> {
        let mut limit_request = limit::Request { origin, ..limit::Request::default() };
        self.read(request, &mut limit_request);
        self.response(request, self.decider().decide_without_store(&limit_request, why, arrived))
    }

    /// Decides one request, if that needs no waiting.
    fn answer_now(
        &self,
        request: &RateLimitRequest,
        context: CallContext,
    ) -> Option<Result<RateLimitResponse, Status>> {
        if self.limiter.is_remote() {
            return None;
        }
        let arrived = clock::instant();
        let mut limit_request = limit::Request { origin: context.origin, ..limit::Request::default() };
        self.read(request, &mut limit_request);
        Some(self.response(request, self.decider().decide_now(&limit_request, arrived)?))
    }

    async fn answer_later(
        &self,
        request: &RateLimitRequest,
        context: CallContext,
    ) -> Result<RateLimitResponse, Status> {
        let arrived = clock::instant();
        let mut limit_request = limit::Request { origin: context.origin, ..limit::Request::default() };
        self.read(request, &mut limit_request);
        let decided = self.decider().decide_later(&limit_request, arrived, context.patience).await;
        self.response(request, decided)
    }

    fn decider(&self) -> Decider<'_> {
        Decider { limiter: &self.limiter, permits: &self.admission.store_permits, store_timeout: self.store_timeout }
    }

    fn read<'r>(&self, request: &'r RateLimitRequest, limit_request: &mut limit::Request<'r>) {
        match convert::read_into(request, limit_request) {
            0 => {}
            limits => self.limiter.metrics().without_unit(limits),
        }
    }

    fn response(
        &self,
        request: &RateLimitRequest,
        decided: Result<Decision, DecideError>,
    ) -> Result<RateLimitResponse, Status> {
        let decision = decided?;
        if let Some(notes) = &decision.notes
            && let Some(trace) = trace::current()
        {
            metadata::note(&trace, &decision, notes, &self.privacy);
        }
        Ok(match &self.extras {
            None => convert::response(decision),
            Some(extras) => with_extras(request, decision, extras),
        })
    }
}

/// A message as the limiter's request.
pub fn to_request(message: &RateLimitRequest) -> limit::Request<'_> {
    let mut limit_request = limit::Request::default();
    convert::read_into(message, &mut limit_request);
    limit_request
}

/// A request has more bytes than [`MESSAGE_BYTES_MAX`].
fn too_long() -> Status {
    Status::out_of_range(format!("a request may have {MESSAGE_BYTES_MAX} bytes"))
}

/// A response with what its settings add.
fn with_extras(request: &RateLimitRequest, decision: Decision, extras: &ResponseSettings) -> RateLimitResponse {
    let response_headers_to_add = headers::headers(&decision, extras);
    // A sampled request has notes even without this.
    let notes = decision.notes.as_ref().filter(|_| extras.dynamic_metadata);
    let dynamic_metadata = notes.map(|notes| metadata::metadata(request, &decision, notes));
    RateLimitResponse { response_headers_to_add, dynamic_metadata, ..convert::response(decision) }
}

/// The error that the caller gets. A store that fails is UNAVAILABLE, not UNKNOWN, so that Envoy's `failure_mode_deny`
/// decides; the details go to the log and the metrics.
impl From<DecideError> for Status {
    fn from(error: DecideError) -> Status {
        match error {
            DecideError::Store(StoreError::Overloaded) => Status::resource_exhausted(error.to_string()),
            DecideError::Store(StoreError::Timeout(_)) => Status::unavailable(error.to_string()),
            DecideError::Store(StoreError::Unreachable(_)) => Status::unavailable("the store can't be reached"),
            DecideError::Store(StoreError::Refused(_)) => Status::unavailable("the store refused"),
            DecideError::Store(StoreError::Defect) => Status::unavailable(error.to_string()),
            DecideError::NoRules => Status::unavailable(error.to_string()),
            DecideError::EmptyDomain
            | DecideError::NoDescriptors
            | DecideError::TooManyDescriptors
            | DecideError::TooManyEntries => Status::invalid_argument(error.to_string()),
        }
    }
}

/// Bounds that no test meets by chance.
#[cfg(test)]
fn bounds() -> OverloadSettings {
    OverloadSettings {
        in_flight_max: 1_000,
        grpc_connections_max: 1_000,
        http_connections_max: 1_000,
        peer_connections_max: None,
        client_timeout: Duration::from_secs(10),
        grpc_ping_interval: Duration::ZERO,
    }
}
