//! HTTP/2 as bytes, for clients that break the rules: a connection on which any frame is sent, whatever the server allows.

use std::{collections::BTreeMap, net::SocketAddr};

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// Of SETTINGS and PING.
const ACK: u8 = 1;

/// A call of the rate limit service as HPACK writes it without any table: what comes after the pseudo-headers is `more`.
pub(crate) fn call(more: &[(&str, &str)]) -> Vec<u8> {
    let text = |out: &mut Vec<u8>, text: &str| {
        // Lengths of 127 and more go on in the next bytes, seven bits each.
        match text.len() {
            short @ 0..127 => out.push(short as u8),
            long => {
                out.push(127);
                let mut left = long - 127;
                while left >= 128 {
                    out.push((left % 128 + 128) as u8);
                    left /= 128;
                }
                out.push(left as u8);
            }
        }
        out.extend_from_slice(text.as_bytes());
    };
    // `:method: POST` and `:scheme: http` are in the static table, and so are the names of the next two.
    let mut out = vec![0x83, 0x86, 0x04];
    text(&mut out, "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
    out.push(0x01);
    text(&mut out, "hostile.test");
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(more) {
        out.push(0);
        text(&mut out, name);
        text(&mut out, value);
    }
    out
}

/// What becomes of a call: its answer, or the code of its reset.
pub(crate) type Outcome = Result<Vec<u8>, u32>;

/// One gRPC message, not compressed.
pub(crate) fn message(request: &RateLimitRequest) -> Vec<u8> {
    let encoded = request.encode_to_vec();
    [&[0][..], &(encoded.len() as u32).to_be_bytes(), &encoded].concat()
}

/// The other way round.
pub(crate) fn answer(outcome: &Outcome) -> RateLimitResponse {
    let bytes = outcome.as_ref().unwrap_or_else(|code| panic!("it was reset with {code}"));
    RateLimitResponse::decode(bytes.get(5..).expect("a prefix")).expect("an answer")
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

pub(crate) struct RawHttp2 {
    pub(crate) read: OwnedReadHalf,
    write: OwnedWriteHalf,
    next_stream: u32,
}

impl RawHttp2 {
    /// Connected, greeted, and from then on silent: no acknowledgement, no answer to a ping.
    pub(crate) async fn connect(at: SocketAddr) -> RawHttp2 {
        RawHttp2::greet(TcpStream::connect(at).await.expect("it listens")).await
    }

    /// Likewise; the kernel keeps as little as it can of what isn't read.
    pub(crate) async fn connect_narrow(at: SocketAddr) -> RawHttp2 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4 << 10).expect("the kernel takes any size");
        RawHttp2::greet(socket.connect(at).await.expect("it listens")).await
    }

    async fn greet(stream: TcpStream) -> RawHttp2 {
        let (read, write) = stream.into_split();
        let mut raw = RawHttp2 { read, write, next_stream: 1 };
        raw.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &[])].concat()).await;
        raw
    }

    /// Says settings: numbers and values.
    pub(crate) async fn settings(&mut self, settings: &[(u16, u32)]) {
        let payload: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        self.send(&frame(SETTINGS, 0, 0, &payload)).await;
    }

    /// The frames of a call with this block of headers and this body, on the next stream.
    pub(crate) fn whole_call(&mut self, block: &[u8], body: &[u8]) -> Vec<u8> {
        let stream = self.next_stream();
        [frame(HEADERS, END_HEADERS, stream, block), frame(DATA, END_STREAM, stream, body)].concat()
    }

    pub(crate) fn next_stream(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }

    /// One frame of the server; `None` at the end of the connection.
    pub(crate) async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.read.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.read.read_exact(&mut payload).await.ok()?;
        Some((kind, flags, u32::from_be_bytes(stream), payload))
    }

    /// Reads until so many calls have an outcome, or the connection ends; pings are answered meanwhile.
    pub(crate) async fn outcomes(&mut self, calls: usize) -> BTreeMap<u32, Outcome> {
        let (mut bodies, mut done) = (BTreeMap::<u32, Vec<u8>>::new(), BTreeMap::new());
        while done.len() < calls {
            let Some((kind, flags, stream, payload)) = self.frame().await else { break };
            match kind {
                DATA => bodies.entry(stream).or_default().extend(payload),
                PING if flags & ACK == 0 => self.send(&frame(PING, ACK, 0, &payload)).await,
                RST_STREAM => {
                    let code = u32::from_be_bytes(payload.try_into().expect("a code has four bytes"));
                    done.entry(stream).or_insert(Err(code));
                    continue;
                }
                _ => {}
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                done.entry(stream).or_insert(Ok(bodies.remove(&stream).unwrap_or_default()));
            }
        }
        done
    }

    /// A server that hung up is what some tests wait for.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.write.write_all(bytes).await;
    }

    /// Begins `count` calls without ever sending a message; `then_reset` takes each back at once.
    pub(crate) async fn begin_calls(&mut self, count: u32, then_reset: bool) {
        let headers = call(&[]);
        let mut out = Vec::new();
        for _ in 0..count {
            out.extend(frame(HEADERS, END_HEADERS, self.next_stream, &headers));
            if then_reset {
                out.extend(frame(RST_STREAM, 0, self.next_stream, &8u32.to_be_bytes()));
            }
            self.next_stream += 2;
        }
        self.send(&out).await;
    }

    /// Begins and takes back `count` calls in 25 bytes each, so that a thousand and more fit into what the kernel keeps
    /// for a server that does not run.
    pub(crate) async fn reset_short_calls(&mut self, count: u32) {
        // `:method: POST`, `:scheme: http` and `:path: /`, all in the static table.
        const SHORT_CALL: [u8; 3] = [0x83, 0x86, 0x84];
        let mut out = Vec::new();
        for _ in 0..count {
            out.extend(frame(HEADERS, END_HEADERS, self.next_stream, &SHORT_CALL));
            out.extend(frame(RST_STREAM, 0, self.next_stream, &8u32.to_be_bytes()));
            self.next_stream += 2;
        }
        self.send(&out).await;
    }

    /// Begins a call with a header of so many bytes, in as few frames as HTTP/2 allows by default.
    pub(crate) async fn begin_call_with_header(&mut self, bytes: usize) {
        const FRAME_BYTES_MAX: usize = 16 << 10;
        let headers = call(&[("x-giant", &"x".repeat(bytes))]);
        let parts: Vec<&[u8]> = headers.chunks(FRAME_BYTES_MAX).collect();
        let mut out = Vec::new();
        for (nth, part) in parts.iter().enumerate() {
            let kind = if nth == 0 { HEADERS } else { CONTINUATION };
            let flags = if nth + 1 == parts.len() { END_HEADERS } else { 0 };
            out.extend(frame(kind, flags, self.next_stream, part));
        }
        self.next_stream += 2;
        self.send(&out).await;
    }

    /// Reads to the end of the connection; how much came.
    pub(crate) async fn ended(&mut self) -> usize {
        let (mut sum, mut buffer) = (0, [0; 4096]);
        loop {
            match self.read.read(&mut buffer).await {
                Ok(0) | Err(_) => return sum,
                Ok(more) => sum += more,
            }
        }
    }
}
