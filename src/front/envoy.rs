//! The rate limit service: converts Envoy's protobuf to the limiter's types and back. Apart from `bench` and `call` the
//! only place that knows these messages.

mod amount;
mod guard;
mod gzip;
mod headers;
mod json;
mod lenient;
mod metadata;
#[cfg(test)]
mod tests;
mod traced;
mod unary;
mod unsent;
mod words;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use futures_util::FutureExt;
use tonic::Status;

pub use guard::{Caller, Guard};
pub use json::{FILE_DESCRIPTORS, JsonError, json_request, json_response};
pub use unary::{Call, OtherReply, Reply};
pub use unsent::{Answers, CoreAnswers, Registered};

use super::decider::Decider;
use crate::{
    clock,
    limit::{self, Origin},
    limiter::{DecideError, Decision, Limiter},
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
pub struct Head {
    pub origin: Origin,
    /// How long the caller waits, if it says so.
    pub allowed: Option<Duration>,
}

/// `envoy.service.ratelimit.v3.RateLimitService`, one per core.
#[derive(Clone)]
pub struct RateLimit {
    limiter: Limiter,
    store_timeout: Duration,
    /// What answers carry besides the decision, if anything.
    extras: Option<Arc<ResponseSettings>>,
    guard: Arc<Guard>,
    /// Traces sampled requests, if tracing is on.
    tracer: Option<Arc<Tracer>>,
}

impl RateLimit {
    pub fn new(
        limiter: Limiter,
        store_timeout: Duration,
        responses: &ResponseSettings,
        bounds: &OverloadSettings,
    ) -> RateLimit {
        let extras = (!responses.is_plain()).then(|| Arc::new(responses.clone()));
        let guard = Arc::new(Guard::new(bounds));
        RateLimit { limiter, store_timeout, extras, guard, tracer: None }
    }

    /// The limiter that decides.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// The bound of requests that wait, for other requests to the same store.
    pub fn guard(&self) -> Arc<Guard> {
        Arc::clone(&self.guard)
    }

    /// Decides one request.
    pub async fn answer(&self, request: &RateLimitRequest, head: Head) -> Result<RateLimitResponse, Status> {
        match self.caught_now(request, head) {
            Some(answer) => answer,
            None => self.caught_later(request, head).await,
        }
    }

    /// As [`RateLimit::answer_now`]. A panic would end the connection, and with it every other request on it.
    fn caught_now(&self, request: &RateLimitRequest, head: Head) -> Option<Result<RateLimitResponse, Status>> {
        let answered = panic::catch_unwind(AssertUnwindSafe(|| self.answer_now(request, head)));
        answered.unwrap_or_else(|_| Some(self.after_panic(request, head)))
    }

    /// As [`RateLimit::answer_later`], likewise.
    async fn caught_later(&self, request: &RateLimitRequest, head: Head) -> Result<RateLimitResponse, Status> {
        let answered = AssertUnwindSafe(self.answer_later(request, head)).catch_unwind().await;
        answered.unwrap_or_else(|_| self.after_panic(request, head))
    }

    /// Answers by the failure policies of the limits after a decision has panicked; with an error, if even that panics.
    fn after_panic(&self, request: &RateLimitRequest, head: Head) -> Result<RateLimitResponse, Status> {
        self.limiter.metrics().panicked();
        let by_policy = || self.answer_without_store((request, head.origin), StoreError::Defect, clock::instant());
        panic::catch_unwind(AssertUnwindSafe(by_policy))
            .unwrap_or_else(|_| Err(DecideError::from(StoreError::Defect).into()))
    }

    fn answer_without_store(
        &self,
        (request, origin): (&RateLimitRequest, Origin),
        why: StoreError,
        arrived: Instant,
    ) -> Result<RateLimitResponse, Status> {
        let mut words = limit::Request { origin, ..limit::Request::default() };
        self.read(request, &mut words);
        self.response(request, self.decider().decide_without_store(&words, why, arrived))
    }

    /// Decides one request, if that needs no waiting.
    fn answer_now(&self, request: &RateLimitRequest, head: Head) -> Option<Result<RateLimitResponse, Status>> {
        if self.limiter.is_remote() {
            return None;
        }
        let arrived = clock::instant();
        let mut words = limit::Request { origin: head.origin, ..limit::Request::default() };
        self.read(request, &mut words);
        Some(self.response(request, self.decider().decide_now(&words, arrived)?))
    }

    async fn answer_later(&self, request: &RateLimitRequest, head: Head) -> Result<RateLimitResponse, Status> {
        let arrived = clock::instant();
        let mut words = limit::Request { origin: head.origin, ..limit::Request::default() };
        self.read(request, &mut words);
        let decided = self.decider().decide_later(&words, arrived, head.allowed).await;
        self.response(request, decided)
    }

    fn decider(&self) -> Decider<'_> {
        Decider { limiter: &self.limiter, places: &self.guard.store, store_timeout: self.store_timeout }
    }

    fn read<'r>(&self, request: &'r RateLimitRequest, words: &mut limit::Request<'r>) {
        match words::read(request, words) {
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
            && let Some(here) = trace::here()
        {
            metadata::note(&here, &decision, notes);
        }
        Ok(match &self.extras {
            None => words::response(decision),
            Some(extras) => dressed(request, decision, extras),
        })
    }
}

/// A message as the limiter's request.
pub fn words(message: &RateLimitRequest) -> limit::Request<'_> {
    let mut words = limit::Request::default();
    words::read(message, &mut words);
    words
}

/// A request has more bytes than [`MESSAGE_BYTES_MAX`].
fn too_long() -> Status {
    Status::out_of_range(format!("a request may have {MESSAGE_BYTES_MAX} bytes"))
}

/// A response with what its settings add.
fn dressed(request: &RateLimitRequest, decision: Decision, extras: &ResponseSettings) -> RateLimitResponse {
    let response_headers_to_add = headers::headers(&decision, extras);
    // A sampled request has notes even without this.
    let notes = decision.notes.as_ref().filter(|_| extras.dynamic_metadata);
    let dynamic_metadata = notes.map(|notes| metadata::metadata(request, &decision, notes));
    RateLimitResponse { response_headers_to_add, dynamic_metadata, ..words::response(decision) }
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
