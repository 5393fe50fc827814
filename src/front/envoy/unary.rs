//! One call of `ShouldRateLimit`, from its HTTP/2 request to its response: gRPC's framing for a message each way. Our
//! own because it is on every request's path: the general codec's buffers, streams and boxes cost more than a decision
//! (docs/src/why/performance.md). What it doesn't do it refuses as gRPC says: encodings but gzip, other content types, long messages.

#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use bytes::{BufMut, Bytes};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_TYPE, USER_AGENT},
};
use hyper::body::{Body, Frame, SizeHint};
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::{Code, Status};

use super::{
    CallContext, MESSAGE_BYTES_MAX, OWN_TOOLS, RateLimit,
    admission::{BodyWait, ClientConnection},
    gzip, lenient, size, too_long, traced,
    unsent::ConnectionAnswers,
};
use crate::{
    front::escape,
    limit::Origin,
    metrics::{ListenerKind, Refusal},
    trace::Span,
};

/// Bytes before each message: a flag that it isn't compressed, and the length.
const PREFIX: usize = 5;
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");

/// The body of a response.
pub enum ResponseBody {
    /// A message and its status; each is removed once it is sent.
    Call { message: Option<Bytes>, trailers: Option<HeaderMap> },
    /// The answer of another service.
    Other(OtherBody),
}

/// A body of another service. It may go on for as long as its client likes, but ends when the connection is stopped. It
/// keeps a place for as long, and what it sends counts among the answers of its connection.
pub struct OtherBody {
    body: tonic::body::Body,
    answers: Arc<ConnectionAnswers>,
    _place: OwnedSemaphorePermit,
    stop: CancellationToken,
    /// Ends the request's body with this one: a stream that goes on would keep the connection.
    _end: DropGuard,
    /// Made with the first wait, because most bodies are there at once.
    stopped: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    is_over: bool,
}

impl OtherBody {
    pub fn new(
        body: tonic::body::Body,
        answers: Arc<ConnectionAnswers>,
        permit: OwnedSemaphorePermit,
        (stop, end): (CancellationToken, CancellationToken),
    ) -> OtherBody {
        OtherBody { body, answers, _place: permit, stop, _end: end.drop_guard(), stopped: None, is_over: false }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(
                frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| self.answers.count_other(bytes)))),
            );
        }
        let stopped = self.stopped.get_or_insert_with(|| Box::pin(self.stop.clone().cancelled_owned()));
        ready!(stopped.as_mut().poll(cx));
        self.is_over = true;
        let mut trailers = HeaderMap::with_capacity(2);
        // Headers of constants can't fail.
        let _ = Status::unavailable("this replica stops").add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl Default for ResponseBody {
    /// Nothing: a status in the headers has no body.
    fn default() -> ResponseBody {
        ResponseBody::Call { message: None, trailers: None }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
            ResponseBody::Call { message, trailers } => {
                let frame = message.take().map(Frame::data).or_else(|| trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
            ResponseBody::Other(other) => other.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Call { message, trailers } => message.is_none() && trailers.is_none(),
            ResponseBody::Other(other) => other.is_over || other.body.is_end_stream(),
        }
    }

    /// None for a call, because hyper would make a `content-length` of it, which gRPC doesn't use.
    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Call { .. } => SizeHint::default(),
            ResponseBody::Other(other) => other.body.size_hint(),
        }
    }
}

/// A request, and whether it came compressed.
#[derive(Debug)]
struct DecodedMessage {
    pub request: RateLimitRequest,
    pub is_gzip: bool,
}

/// An answer, and whether what was asked came compressed.
type CallResult = (Result<RateLimitResponse, Status>, bool);

/// A call whose head was read. Only this is kept of the head: a call that waits for its body or for the store should be
/// small.
pub struct Call<B> {
    body: B,
    is_grpc: bool,
    /// The caller's timeout, only if something needs it.
    context: CallContext,
    /// The span, if the request is sampled.
    span: Option<Box<Span>>,
}

impl RateLimit {
    /// Reads the head of a call: on the task of its connection, which a panic here would end.
    pub fn take<B>(&self, request: Request<B>) -> Call<B> {
        let headers = request.headers();
        let is_grpc = |kind: &HeaderValue| kind.as_bytes().starts_with(GRPC.as_bytes());
        let is_grpc = headers.get(CONTENT_TYPE).is_some_and(is_grpc);
        let allowed = if self.limiter.is_remote() { grpc_timeout(headers) } else { None };
        let context = CallContext { origin: origin(headers), patience: allowed };
        let span = if is_grpc { self.follow_call(headers) } else { None };
        Call { is_grpc, context, span, body: request.into_body() }
    }

    /// Answers a call of a connection; every outcome is a response.
    pub async fn call<B>(&self, call: Call<B>, caller: &ClientConnection) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let Call { body, is_grpc, context, span } = call;
        if !is_grpc {
            self.limiter.metrics().refusals.refused(Refusal::ContentType, caller.peer);
            let mut response = Response::new(ResponseBody::default());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let (answer, is_gzip) = self.try_call(body, context, caller, span.as_deref()).await;
        if let Some(mut span) = span {
            traced::ended(&mut span, &answer);
        }
        let mut response = match answer {
            Ok(message) => framed(&message, &caller.answers),
            Err(status) => status.into_http(),
        };
        if is_gzip {
            response.headers_mut().insert(gzip::ACCEPTS, gzip::accepted());
        }
        response
    }

    async fn try_call<B>(
        &self,
        body: B,
        context: CallContext,
        caller: &ClientConnection,
        span: Option<&Span>,
    ) -> CallResult
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let read = message(body, self.admission.wait_for_body(caller))
            .await
            .inspect_err(|status| self.count_rejected(status, caller));
        let DecodedMessage { request, is_gzip } = match read {
            Ok(read) => read,
            Err(status) => return (Err(status), false),
        };
        if let Some(span) = span {
            return (Box::pin(self.answer_traced(&request, context, span)).await, is_gzip);
        }
        let answer = match self.answer_now_catching(&request, context) {
            Some(answer) => answer,
            // Boxed, because a future is as large as its largest part, and most calls don't wait.
            None => Box::pin(self.answer_later_catching(&request, context)).await,
        };
        (answer, is_gzip)
    }

    /// Counts a request that was not read for the client's or the crowd's sake, or because it brings too much or nothing
    /// that could be read.
    fn count_rejected(&self, status: &Status, caller: &ClientConnection) {
        let metrics = self.limiter.metrics();
        let refused = |why| {
            metrics.invalid();
            metrics.refusals.refused(why, caller.peer);
        };
        match status.code() {
            Code::DeadlineExceeded => metrics.clients.slow(ListenerKind::Grpc),
            Code::ResourceExhausted => metrics.shed(),
            Code::InvalidArgument => metrics.invalid(),
            Code::Internal => refused(Refusal::Message),
            Code::Unimplemented => refused(Refusal::Compressed),
            Code::OutOfRange => refused(Refusal::MessageTooLarge),
            _ => {}
        }
    }
}

/// Reads the one message of a call. Nearly always it is in one frame, and nothing is copied.
async fn message<B>(mut body: B, mut wait: BodyWait<'_>) -> Result<DecodedMessage, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut read = Bytes::new();
    let mut joined = wait.guard().join_body();
    while let Some(frame) = poll_fn(|cx| wait.poll_frame(&mut body, cx)).await? {
        // The client or the connection has gone: nobody reads this.
        let frame = frame.map_err(|error| Status::cancelled(format!("the request can't be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + joined.bytes().len() + data.len() > PREFIX + MESSAGE_BYTES_MAX {
            return Err(too_long());
        }
        if read.is_empty() && joined.bytes().is_empty() {
            read = data;
        } else {
            joined.add(&std::mem::take(&mut read))?;
            joined.add(&data)?;
        }
        if body.is_end_stream() {
            break;
        }
    }
    decoded(if joined.bytes().is_empty() { &read } else { joined.bytes() })
}

/// One message with its prefix.
fn decoded(read: &[u8]) -> Result<DecodedMessage, Status> {
    let Some((prefix, message)) = read.split_at_checked(PREFIX) else {
        return Err(Status::internal("the request is no gRPC message"));
    };
    if u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize != message.len() {
        return Err(Status::internal("the request is not one gRPC message of the length that it says"));
    }
    if prefix[0] != 0 {
        return Ok(DecodedMessage { request: decoded_message(&gzip::inflated(message)?)?, is_gzip: true });
    }
    Ok(DecodedMessage { request: decoded_message(message)?, is_gzip: false })
}

fn decoded_message(message: &[u8]) -> Result<RateLimitRequest, Status> {
    size::check_message(message)?;
    if escape::is_plain(message)
        && let Ok(request) = RateLimitRequest::decode(message)
    {
        return Ok(request);
    }
    lenient::decode(message).map_err(|error| Status::internal(format!("the request is no RateLimitRequest: {error}")))
}

fn framed(message: &RateLimitResponse, answers: &Arc<ConnectionAnswers>) -> Response<ResponseBody> {
    let length = message.encoded_len();
    let bytes = answers.answer(PREFIX + length, |mut out| {
        out.put_u8(0);
        out.put_u32(length as u32);
        message.encode_raw(&mut out);
    });
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, OK);
    let mut response = Response::new(ResponseBody::Call { message: Some(bytes), trailers: Some(trailers) });
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

fn origin(headers: &HeaderMap) -> Origin {
    let is_own = |agent: &HeaderValue| agent.as_bytes().starts_with(OWN_TOOLS.as_bytes());
    if headers.get(USER_AGENT).is_some_and(is_own) { Origin::Tool } else { Origin::Envoy }
}

/// The caller's timeout (`grpc-timeout`: digits and a unit); what can't be read is no limit, as in gRPC.
pub(super) fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
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
