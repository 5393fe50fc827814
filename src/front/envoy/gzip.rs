//! Compressed messages. No request's headers are searched for the encoding: gzip is recognised by its first bytes, and
//! no other encoding is accepted.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use http::HeaderValue;
use tonic::{Status, metadata::MetadataValue};

use super::{MESSAGE_BYTES_MAX, too_long};

/// The header with the accepted encodings.
pub(super) const ACCEPTS: &str = "grpc-accept-encoding";
const ACCEPTED: &str = "identity,gzip";

const MAGIC: [u8; 2] = [0x1f, 0x8b];

pub(super) fn accepted() -> HeaderValue {
    HeaderValue::from_static(ACCEPTED)
}

/// The message, with the same bound as one that isn't compressed.
pub(super) fn inflated(compressed: &[u8]) -> Result<Vec<u8>, Status> {
    if !compressed.starts_with(&MAGIC) {
        let mut status = Status::unimplemented("compressed requests are taken as gzip only");
        status.metadata_mut().insert(ACCEPTS, MetadataValue::from_static(ACCEPTED));
        return Err(status);
    }
    let mut message = Vec::with_capacity((4 * compressed.len()).min(MESSAGE_BYTES_MAX));
    let one_more = MESSAGE_BYTES_MAX as u64 + 1;
    MultiGzDecoder::new(compressed)
        .take(one_more)
        .read_to_end(&mut message)
        .map_err(|error| Status::internal(format!("the request can't be decompressed: {error}")))?;
    if message.len() > MESSAGE_BYTES_MAX { Err(too_long()) } else { Ok(message) }
}
