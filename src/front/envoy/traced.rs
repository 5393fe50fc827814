//! Sampled requests: the spans of a call, with the names of envoyproxy/ratelimit if it has them. Nothing here runs for
//! a request that isn't sampled.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt::Write, sync::Arc};

use crate::proto::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::{RateLimitRequest, RateLimitResponse, rate_limit_response::Code as Overall},
    r#type::v3::RateLimitUnit,
};
use http::HeaderMap;
use tonic::{Code, Status};

use super::{CallContext, RateLimit};
use crate::{
    limit,
    privacy::Privacy,
    rules::RuleMatch,
    trace::{Span, SpanKind, Tracer},
};

const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
const METHOD: &str = "ShouldRateLimit";
const CALL: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// Name of the span of the decision, from the request that was read to the answer.
const EXECUTION: &str = "ShouldRateLimit Execution";

impl RateLimit {
    /// This service with traces of sampled requests, which show values as `privacy` allows.
    pub fn with_tracer(self, tracer: Option<Arc<Tracer>>, privacy: Privacy) -> RateLimit {
        RateLimit { tracer, privacy, ..self }
    }

    /// The span of a request with these headers, if it is sampled.
    pub fn start_span(&self, headers: &HeaderMap, name: &'static str) -> Option<Span> {
        self.tracer.as_ref()?.begin(headers, name)
    }

    /// The span of a call, likewise.
    pub(super) fn follow_call(&self, headers: &HeaderMap) -> Option<Box<Span>> {
        let mut span = Box::new(self.start_span(headers, CALL)?);
        span.set_text("rpc.system", "grpc");
        span.set_text("rpc.service", SERVICE);
        span.set_text("rpc.method", METHOD);
        Some(span)
    }

    /// As [`RateLimit::answer`], as a part of `span`. A request whose caller goes away leaves a span without a code.
    pub async fn answer_traced(
        &self,
        request: &RateLimitRequest,
        context: CallContext,
        span: &Span,
    ) -> Result<RateLimitResponse, Status> {
        let mut execution = span.child(EXECUTION, SpanKind::Internal);
        let text_max = execution.text_bytes_max();
        execution.set_text("domain", &*request.domain);
        execution.set_text("request string", text(&self.shown(request), text_max));
        let answer = execution.around(self.answer(request, context)).await;
        match &answer {
            Ok(response) => {
                let code = Overall::try_from(response.overall_code).unwrap_or_default();
                execution.set_text("tollgate.code", code.as_str_name());
            }
            Err(status) => execution.fail(status.message()),
        }
        answer
    }
}

impl RateLimit {
    /// The request as a span may show it: with hashes in the place of values that nobody should read.
    fn shown<'r>(&self, request: &'r RateLimitRequest) -> Cow<'r, RateLimitRequest> {
        if !self.privacy.hides_values() {
            return Cow::Borrowed(request);
        }
        let (snapshot, mut shown) = (self.limiter.snapshot(), request.clone());
        for descriptor in &mut shown.descriptors {
            let entries: Vec<limit::Entry<'_>> =
                descriptor.entries.iter().map(|Entry { key, value }| limit::Entry { key, value }).collect();
            let rule = match snapshot.rules.find(&request.domain, &entries) {
                RuleMatch::Rule { rule, .. } => Some(rule),
                RuleMatch::NoMatch | RuleMatch::UnknownDomain => None,
            };
            for (position, entry) in descriptor.entries.iter_mut().enumerate() {
                if !rule.is_some_and(|rule| rule.names_value(position)) {
                    entry.value = self.privacy.shown(&entry.key, &entry.value).into_owned();
                }
            }
        }
        Cow::Owned(shown)
    }

    /// The answer as a span may show it: dynamic metadata repeats the request.
    pub fn shown_answer<'r>(&self, response: &'r RateLimitResponse) -> Cow<'r, RateLimitResponse> {
        if response.dynamic_metadata.is_none() || !self.privacy.hides_values() {
            return Cow::Borrowed(response);
        }
        Cow::Owned(RateLimitResponse { dynamic_metadata: None, ..response.clone() })
    }
}

/// Says in the span of a call what it was answered. The span ends when it is dropped.
pub(super) fn ended(span: &mut Span, answer: &Result<RateLimitResponse, Status>) {
    let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
    span.set_int("rpc.grpc.status_code", code as i64);
    if let Err(status) = answer
        && is_server_error(status.code())
    {
        span.fail(status.message());
    }
}

/// Whether a server's span with this code is an error: not where the caller's request was at fault.
fn is_server_error(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted
    )
}

/// The request in protobuf's text format, as far as it is wanted.
fn text(request: &RateLimitRequest, bytes_max: usize) -> String {
    let mut out = String::with_capacity(256.min(bytes_max));
    let _ = write!(out, "domain:{:?}", request.domain);
    for descriptor in &request.descriptors {
        if out.len() > bytes_max {
            return out;
        }
        out.push_str(" descriptors:{");
        write_descriptor(&mut out, descriptor);
        out.push('}');
    }
    if request.hits_addend != 0 {
        let _ = write!(out, " hits_addend:{}", request.hits_addend);
    }
    out
}

fn write_descriptor(out: &mut String, descriptor: &RateLimitDescriptor) {
    let mut parts = Vec::with_capacity(descriptor.entries.len());
    for entry in &descriptor.entries {
        parts.push(format!("entries:{{key:{:?} value:{:?}}}", entry.key, entry.value));
    }
    if let Some(limit) = &descriptor.limit {
        let unit = RateLimitUnit::try_from(limit.unit).unwrap_or_default().as_str_name();
        parts.push(format!("limit:{{requests_per_unit:{} unit:{unit}}}", limit.requests_per_unit));
    }
    if let Some(hits) = &descriptor.hits_addend {
        parts.push(format!("hits_addend:{{value:{}}}", hits.value));
    }
    if descriptor.is_negative_hits {
        parts.push("is_negative_hits:true".to_owned());
    }
    out.push_str(&parts.join(" "));
}
