//! A line of the decision log, or of anything else that writes requests so: a JSON object with `t`, `domain` and
//! `descriptors`. What else a line has is skipped, not kept.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::recorded::{Recorded, Sample, Span};
use crate::limit::{Code, EnforcedShare, Origin, Unit, UnixMicros};

/// The latest moment of a log: beyond it a double no longer holds every microsecond.
const LAST_SECONDS: f64 = ((1u64 << 53) / 1_000_000) as f64;

/// Reads one line. The error is for people, and says what is wrong.
pub(super) fn read(line: &[u8], into: &mut Recorded) -> Result<(), String> {
    into.clear();
    let mut json = serde_json::Deserializer::from_slice(line);
    LineSeed(into).deserialize(&mut json).and_then(|()| json.end()).map_err(|error| in_words(&error))
}

/// Without the line, which is always the first of its text.
pub(super) fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    match error.classify() {
        serde_json::error::Category::Data => what.to_owned(),
        _ => format!("this is no JSON: {what} at column {}", error.column()),
    }
}

/// Seconds since the epoch to a moment; rounded, because a double of seconds isn't whole microseconds.
pub(super) fn moment(seconds: f64) -> Option<UnixMicros> {
    (0.0..LAST_SECONDS).contains(&seconds).then(|| UnixMicros((seconds * 1e6).round() as u64))
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum LineField {
    T,
    Domain,
    Descriptors,
    Hits,
    Origin,
    Code,
    LimitId,
    Sample,
    By,
    DescriptorsLeftOut,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum DescriptorField {
    Entries,
    Hits,
    Limit,
    #[serde(other)]
    Other,
}

/// The limit that a descriptor brought itself.
#[derive(Deserialize)]
struct OwnLimit<'a> {
    requests_per_unit: u32,
    #[serde(borrow)]
    unit: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum EntryField {
    Key,
    Value,
    #[serde(other)]
    Other,
}

struct LineSeed<'r>(&'r mut Recorded);
struct DescriptorsSeed<'r>(&'r mut Recorded);
struct DescriptorSeed<'r>(&'r mut Recorded);
struct EntriesSeed<'r>(&'r mut Recorded);
struct EntrySeed<'r>(&'r mut Recorded);
/// Keeps a text.
struct TextSeed<'r>(&'r mut Recorded);
/// Reads a text that isn't kept.
struct WordSeed<T>(fn(&str) -> Result<T, String>);

impl<'de> DeserializeSeed<'de> for LineSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for LineSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `t`, `domain` and `descriptors`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let line = self.0;
        let (mut has_time, mut has_domain, mut has_descriptors) = (false, false, false);
        while let Some(field) = map.next_key()? {
            match field {
                LineField::T => {
                    let seconds: f64 = map.next_value()?;
                    line.at = moment(seconds)
                        .ok_or_else(|| A::Error::custom(format!("`t` is no time in seconds since 1970: {seconds}")))?;
                    has_time = true;
                }
                LineField::Domain => {
                    let domain = map.next_value_seed(TextSeed(line))?;
                    line.set_domain(domain);
                    has_domain = true;
                }
                LineField::Descriptors => {
                    map.next_value_seed(DescriptorsSeed(line))?;
                    has_descriptors = true;
                }
                LineField::Hits => line.hits = map.next_value()?,
                LineField::Origin => line.origin = map.next_value_seed(WordSeed(origin))?,
                LineField::Code => line.code = map.next_value_seed(WordSeed(code))?,
                LineField::LimitId => {
                    let id = map.next_value_seed(TextSeed(line))?;
                    line.set_limit_id(id);
                }
                LineField::Sample => line.sample = map.next_value_seed(WordSeed(sample))?,
                LineField::By => {
                    let key = map.next_value_seed(TextSeed(line))?;
                    line.set_by(key);
                }
                LineField::DescriptorsLeftOut => line.is_incomplete = map.next_value::<u64>()? > 0,
                LineField::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        for (has, name) in [(has_time, "t"), (has_domain, "domain"), (has_descriptors, "descriptors")] {
            if !has {
                return Err(A::Error::custom(format!("there is no `{name}`")));
            }
        }
        Ok(())
    }
}

fn origin(text: &str) -> Result<Origin, String> {
    Ok(match text {
        "api" => Origin::Api,
        "tool" => Origin::Tool,
        _ => Origin::Envoy,
    })
}

fn code(text: &str) -> Result<Option<Code>, String> {
    Ok(match text {
        "OK" => Some(Code::Ok),
        "OVER_LIMIT" => Some(Code::OverLimit),
        // An error was answered, by which the request was neither admitted nor refused.
        _ => None,
    })
}

fn sample(text: &str) -> Result<Sample, String> {
    match text {
        "all" => Ok(Sample::All),
        // The first refusals of a counter, and some of its others.
        denied if denied.starts_with("denied") => Ok(Sample::Denials),
        share => match EnforcedShare::parse(share) {
            Ok(share) if share.is_partial() => Ok(Sample::Share(share.parts())),
            Ok(share) if !share.is_none() => Ok(Sample::All),
            _ => Err(format!("`sample` is `{share}`: it must be `all`, `denied` or a share such as `1%`")),
        },
    }
}

impl<'de> DeserializeSeed<'de> for DescriptorsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for DescriptorsSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of descriptors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(DescriptorSeed(self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for DescriptorSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DescriptorSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a descriptor with `entries`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut hits, mut limit): (_, Option<OwnLimit>) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                DescriptorField::Entries => map.next_value_seed(EntriesSeed(self.0))?,
                DescriptorField::Hits => hits = map.next_value()?,
                DescriptorField::Limit => limit = map.next_value()?,
                DescriptorField::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let limit = limit.map(|OwnLimit { requests_per_unit, unit }| {
            let unit = Unit::parse(&unit).ok_or_else(|| A::Error::custom(format!("there is no unit `{unit}`")))?;
            Ok((requests_per_unit, unit))
        });
        self.0.end_descriptor(hits, limit.transpose()?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for EntriesSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for EntriesSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(EntrySeed(self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for EntrySeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EntrySeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry with `key` and `value`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut key, mut value) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                EntryField::Key => key = Some(map.next_value_seed(TextSeed(self.0))?),
                EntryField::Value => value = Some(map.next_value_seed(TextSeed(self.0))?),
                EntryField::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let key = key.ok_or_else(|| A::Error::custom("an entry has no `key`"))?;
        // Protobuf's JSON leaves out what is empty.
        self.0.push_entry(key, value.unwrap_or(0..0));
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for TextSeed<'_> {
    type Value = Span;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Span, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for TextSeed<'_> {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
        Ok(self.0.keep(text))
    }
}

impl<'de, T> DeserializeSeed<'de> for WordSeed<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        from.deserialize_str(self)
    }
}

impl<T> Visitor<'_> for WordSeed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}
