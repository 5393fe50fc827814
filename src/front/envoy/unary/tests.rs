use std::{collections::VecDeque, convert::Infallible};

use crate::proto::envoy::extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry};
use futures_util::FutureExt;
use http_body_util::BodyExt;

use super::*;
use crate::{
    front::envoy::{admission::AdmissionControl, bounds, unsent::ConnectionAnswers},
    settings::OverloadSettings,
};

/// Places for `in_flight_max` requests to wait.
fn guard(in_flight_max: usize) -> AdmissionControl {
    AdmissionControl::new(&OverloadSettings { in_flight_max, client_timeout: Duration::from_millis(20), ..bounds() })
}

/// A body that comes in these frames.
struct Frames(VecDeque<Bytes>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

fn asked() -> RateLimitRequest {
    let entries = vec![Entry { key: "user".into(), value: "alice".into() }];
    let descriptors = vec![RateLimitDescriptor { entries, ..RateLimitDescriptor::default() }];
    RateLimitRequest { domain: "api".into(), descriptors, hits_addend: 1 }
}

fn bytes() -> Vec<u8> {
    let message = asked().encode_to_vec();
    let mut out = vec![0];
    out.extend((message.len() as u32).to_be_bytes());
    out.extend(message);
    out
}

fn read(frames: impl IntoIterator<Item = Vec<u8>>) -> Result<RateLimitRequest, Status> {
    let frames = Frames(frames.into_iter().map(Bytes::from).collect());
    let (guard, own) = (guard(1), ClientConnection::detached());
    let read = message(frames, guard.wait_for_body(&own)).now_or_never().expect("the frames are there");
    read.map(|read| read.request)
}

#[test]
fn a_message_is_the_same_however_it_is_cut_into_frames() {
    let whole = bytes();
    for at in 0..=whole.len() {
        let (first, second) = whole.split_at(at);
        assert_eq!(read([first.to_vec(), second.to_vec()]).expect("well formed"), asked(), "cut at {at}");
    }
    assert_eq!(read(whole.iter().map(|byte| vec![*byte])).expect("well formed"), asked());
}

#[test]
fn what_is_no_message_is_refused_with_the_status_that_says_why() {
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut bytes = bytes();
        change(&mut bytes);
        read([bytes]).expect_err("not well formed").code()
    };
    assert_eq!(read([]).expect_err("nothing").code(), Code::Internal);
    assert_eq!(changed(|bytes| bytes.truncate(4)), Code::Internal);
    assert_eq!(changed(|bytes| bytes.truncate(9)), Code::Internal);
    assert_eq!(changed(|bytes| bytes.push(0)), Code::Internal);
    assert_eq!(changed(|bytes| bytes[0] = 1), Code::Unimplemented);
    assert_eq!(changed(|bytes| bytes[6] = 0xff), Code::Internal);
}

#[test]
fn a_message_over_the_bound_is_refused_before_it_is_joined() {
    let mut long = vec![0];
    long.extend((MESSAGE_BYTES_MAX as u32 + 1).to_be_bytes());
    let frames =
        std::iter::once(long).chain(std::iter::repeat_n(vec![0; 1 << 16], MESSAGE_BYTES_MAX >> 16)).chain([vec![0]]);
    assert_eq!(read(frames).expect_err("too long").code(), Code::OutOfRange);
}

#[test]
fn an_answer_is_a_message_and_then_its_status() {
    let response = RateLimitResponse { overall_code: 2, ..RateLimitResponse::default() };
    let (parts, mut body) = framed(&response, &ConnectionAnswers::detached()).into_parts();
    assert_eq!(parts.headers.get(CONTENT_TYPE), Some(&GRPC));
    let frame = |body: &mut ResponseBody| {
        body.frame().now_or_never().expect("it is there").map(|frame| frame.expect("no error"))
    };
    let data = frame(&mut body).and_then(|frame| frame.into_data().ok()).expect("a message");
    assert_eq!(&data[..], [0, 0, 0, 0, 2, 8, 2]);
    assert!(!body.is_end_stream());
    let trailers = frame(&mut body).and_then(|frame| frame.into_trailers().ok()).expect("a status");
    assert_eq!(trailers.get("grpc-status"), Some(&OK));
    assert!(body.is_end_stream() && frame(&mut body).is_none());
}

/// A body that does not come.
struct Never;

impl Body for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_body_is_waited_for_in_a_bounded_number_of_places_and_not_for_ever() {
    let (guard, own, others) = (guard(2), ClientConnection::detached(), ClientConnection::detached());
    let wait = || message(Never, guard.wait_for_body(&own));
    // As many as any connection may have, and both of the common places.
    let mut waiting: Vec<_> = (0..18).map(|_| Box::pin(wait())).collect();
    assert!(waiting.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
    let one_more = wait().now_or_never().expect("there is no place for it");
    assert_eq!(one_more.expect_err("it is shed").code(), Code::ResourceExhausted);
    assert!(
        message(Never, guard.wait_for_body(&others)).now_or_never().is_none(),
        "another connection has places of its own"
    );
    waiting.pop();
    assert!(wait().now_or_never().is_none(), "the place is free again");
    assert_eq!(waiting.remove(0).await.expect_err("its time is up").code(), Code::DeadlineExceeded);
    let whole = message(Frames([Bytes::from(bytes())].into()), guard.wait_for_body(&own));
    assert_eq!(whole.now_or_never().expect("it is there").expect("well formed").request, asked());
}

#[test]
fn bytes_of_bodies_in_parts_are_bounded_over_all_requests() {
    let guard = guard(1);
    let mut held: Vec<_> = (0..64).map(|_| guard.join_body()).collect();
    let part = vec![0; 1 << 20];
    assert!(held.iter_mut().all(|body| body.add(&part).is_ok()));
    let mut one_more = guard.join_body();
    assert_eq!(one_more.add(&part).expect_err("too many").code(), Code::ResourceExhausted);
    drop(one_more);
    held.pop();
    assert!(guard.join_body().add(&part).is_ok(), "what is dropped is given back");
}
