//! Counts the descriptors and entries of a message before it is decoded: an empty one takes two bytes on the wire and
//! many times that in memory. It only counts; the reader reports everything else that is wrong.

use std::{borrow::Cow, fmt};

use prost::{
    DecodeError,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{
    limit::{DESCRIPTORS_MAX, ENTRIES_MAX},
    limiter::DecideError,
};

/// A shorter message can't have too many, so most messages are not checked: an empty part takes two bytes, in JSON too.
const BYTES_MIN: usize = 2 * DESCRIPTORS_MAX;

/// Numbers of the fields on the wire.
const DESCRIPTORS: u32 = 2;
const ENTRIES: u32 = 1;

/// Checks a `RateLimitRequest` as protobuf, by the bounds of its parts only.
pub(super) fn check_message(message: &[u8]) -> Result<(), DecideError> {
    if message.len() <= BYTES_MIN {
        return Ok(());
    }
    let mut amount = RequestSize::default();
    // A broken message can't be decoded beyond this place either.
    let _ = fields(message, DESCRIPTORS, |descriptor| {
        amount.descriptors += 1;
        fields(descriptor, ENTRIES, |_| {
            amount.entries += 1;
            Ok(amount.is_within())
        })?;
        Ok(amount.is_within())
    });
    amount.checked()
}

/// Checks a request as JSON.
pub(super) fn check_json(body: &[u8]) -> Result<(), DecideError> {
    if body.len() <= BYTES_MIN {
        return Ok(());
    }
    let mut amount = RequestSize::default();
    let part = ListCounter { name: "descriptors", size: &mut amount };
    // A broken body can't be read beyond this place either.
    let _ = part.deserialize(&mut serde_json::Deserializer::from_slice(body));
    amount.checked()
}

#[derive(Default)]
struct RequestSize {
    descriptors: usize,
    entries: usize,
}

impl RequestSize {
    fn is_within(&self) -> bool {
        self.descriptors <= DESCRIPTORS_MAX && self.entries <= ENTRIES_MAX
    }

    fn checked(&self) -> Result<(), DecideError> {
        match self {
            RequestSize { descriptors, .. } if *descriptors > DESCRIPTORS_MAX => Err(DecideError::TooManyDescriptors),
            RequestSize { entries, .. } if *entries > ENTRIES_MAX => Err(DecideError::TooManyEntries),
            RequestSize { .. } => Ok(()),
        }
    }
}

/// Calls `found` with the bytes of every field of this number, as long as it wants more.
fn fields(
    mut message: &[u8],
    number: u32,
    mut found: impl FnMut(&[u8]) -> Result<bool, DecodeError>,
) -> Result<(), DecodeError> {
    while !message.is_empty() {
        let (tag, kind) = decode_key(&mut message)?;
        if tag != number || kind != WireType::LengthDelimited {
            skip_field(kind, tag, &mut message, DecodeContext::default())?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut message)?).unwrap_or(usize::MAX);
        // A field that is cut short is checked all the same, because it is decoded up to there.
        let (field, rest) = message.split_at(length.min(message.len()));
        if !found(field)? {
            break;
        }
        message = rest;
    }
    Ok(())
}

/// The request or one of its descriptors, and the name of the list in it that is counted.
struct ListCounter<'a> {
    name: &'static str,
    size: &'a mut RequestSize,
}

impl<'de> DeserializeSeed<'de> for ListCounter<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ListCounter<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    /// `null` is an empty list.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == self.name {
                map.next_value_seed(ListCounter { name: self.name, size: &mut *self.size })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        loop {
            let is_there = if self.name == "descriptors" {
                let descriptor = ListCounter { name: "entries", size: &mut *self.size };
                let found = list.next_element_seed(descriptor)?.is_some();
                self.size.descriptors += usize::from(found);
                found
            } else {
                let found = list.next_element::<IgnoredAny>()?.is_some();
                self.size.entries += usize::from(found);
                found
            };
            if !self.size.is_within() {
                return Err(A::Error::custom("too many"));
            }
            if !is_there {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::proto::envoy::{
        extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
        service::ratelimit::v3::RateLimitRequest,
    };
    use prost::Message;

    use super::*;

    /// Checks as protobuf and as JSON, which must agree.
    fn check(descriptors: usize, entries: usize) -> Result<(), DecideError> {
        let mut request = RateLimitRequest {
            domain: "api".into(),
            descriptors: vec![RateLimitDescriptor::default(); descriptors],
            hits_addend: 1,
        };
        let mut parts = vec!["{}".to_owned(); descriptors];
        request.descriptors[0].entries = vec![Entry::default(); entries];
        parts[0] = format!(r#"{{"entries": [{}]}}"#, vec!["{}"; entries].join(","));
        let json = format!(r#"{{"domain": "api", "hitsAddend": 1, "descriptors": [{}]}}"#, parts.join(","));
        let said = check_message(&request.encode_to_vec());
        assert_eq!(check_json(json.as_bytes()), said);
        said
    }

    #[test]
    fn as_many_as_may_be_are_taken_and_one_more_is_refused() {
        assert_eq!(check(1, 1), Ok(()));
        assert_eq!(check(DESCRIPTORS_MAX, ENTRIES_MAX), Ok(()));
        assert_eq!(check(DESCRIPTORS_MAX + 1, 0), Err(DecideError::TooManyDescriptors));
        assert_eq!(check(1, ENTRIES_MAX + 1), Err(DecideError::TooManyEntries));
    }

    #[test]
    fn a_message_that_breaks_off_counts_as_far_as_it_goes() {
        let many = [0x12, 0x00].repeat(DESCRIPTORS_MAX + 1);
        // A length beyond the message's end, a group that never ends, a number that is none.
        for broken in [&[0x12, 0xff, 0x7f][..], &[0x1b], &[0xff; 12]] {
            assert_eq!(check_message(&[&many, broken].concat()), Err(DecideError::TooManyDescriptors));
            assert_eq!(check_message(&[broken, &many].concat()), Ok(()));
        }
        let entries = [0x0a, 0x00].repeat(ENTRIES_MAX + 1);
        assert_eq!(
            check_message(&[&[0x12, 0xff, 0xff, 0x7f][..], &entries].concat()),
            Err(DecideError::TooManyEntries)
        );
        for broken in [r#"{"domain": 1, "descriptors": [{}, 1"#, "[[[", r#"{"descriptors": null"#] {
            let body = format!("{}{broken}", " ".repeat(BYTES_MIN));
            assert_eq!(check_json(body.as_bytes()), Ok(()));
        }
    }

    #[test]
    fn a_list_that_comes_twice_counts_twice() {
        let half = vec!["{}"; DESCRIPTORS_MAX / 2 + 1].join(",");
        let body = format!(r#"{{"descriptors": [{half}], "\u0064escriptors": [{half}]}}"#);
        assert_eq!(check_json(body.as_bytes()), Err(DecideError::TooManyDescriptors));
    }
}
