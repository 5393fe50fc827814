//! Server-sent events, as they come in parts of any length. An event ends with an empty line; comments keep the connection
//! alive and say nothing.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body;

/// A longer line is no event of ours.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Reads the events of a body.
pub(super) struct EventReader<B> {
    body: B,
    /// What came and isn't read yet.
    waiting: Vec<u8>,
    name: String,
    data: String,
}

impl<B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Unpin> EventReader<B> {
    pub(super) fn new(body: B) -> EventReader<B> {
        EventReader { body, waiting: Vec::new(), name: String::new(), data: String::new() }
    }

    /// The next event's name and data; `None` at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<(String, String)>> {
        loop {
            while let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.waiting.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if let Some(event) = self.take(line.trim_end_matches(['\n', '\r'])) {
                    return Ok(Some(event));
                }
            }
            anyhow::ensure!(self.waiting.len() <= LINE_BYTES_MAX, "a line of it has more than {LINE_BYTES_MAX} bytes");
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.waiting.extend_from_slice(&data);
                    }
                }
                None => return Ok(None),
            }
        }
    }

    /// The event that ends with this line.
    fn take(&mut self, line: &str) -> Option<(String, String)> {
        if line.is_empty() {
            let event = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return (!event.0.is_empty() || !event.1.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}
