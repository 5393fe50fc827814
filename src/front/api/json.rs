//! Messages as JSON: how their text is read, and forms that are friendlier than the messages: entries as a map, limits as
//! rule files write them. What is written is read again; what is read may also be in the message's own form.

#[cfg(test)]
mod tests;

use serde::de::DeserializeOwned;

use crate::rules::json_stopped;

/// Why a text isn't the JSON that is wanted, and where: both count from 1, columns in characters.
pub(crate) struct Misread {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) what: String,
}

/// Reads one message. A byte order mark before it, as some editors write it, is none of its text.
pub(crate) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Misread> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    serde_json::from_slice(text).map_err(|error| {
        let (line, column, what) = json_stopped(text, &error);
        Misread { line, column, what: in_words(&what) }
    })
}

/// The parser's expectation in the words of JSON; it uses those of Rust.
fn in_words(what: &str) -> String {
    let Some((found, expected)) = what.rsplit_once(", expected ") else { return what.to_owned() };
    let expected = match expected {
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number from 0 to 18446744073709551615",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "i64" => "a whole number from -9223372036854775808 to 9223372036854775807",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        _ => return what.to_owned(),
    };
    let found =
        ["invalid type: ", "invalid value: "].iter().find_map(|start| found.strip_prefix(start)).unwrap_or(found);
    let found = match found.split_once(' ') {
        None if found == "map" => "an object",
        None if found == "sequence" => "a list",
        _ => found,
    };
    format!("expected {expected}, not {found}")
}

/// The hits of a whole check. Those of a descriptor may be negative; these may not, and who sends such is told that.
pub(super) mod hits {
    use std::fmt;

    use serde::{
        Deserialize, Deserializer,
        de::{Error, Unexpected, Visitor},
    };

    struct Hits(u32);

    impl<'de> Deserialize<'de> for Hits {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Hits, D::Error> {
            struct Number;
            impl Visitor<'_> for Number {
                type Value = Hits;

                fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                    out.write_str("u32")
                }

                fn visit_u64<E: Error>(self, hits: u64) -> Result<Hits, E> {
                    let small = u32::try_from(hits).map(Hits);
                    small.map_err(|_| E::invalid_value(Unexpected::Unsigned(hits), &self))
                }

                fn visit_i64<E: Error>(self, hits: i64) -> Result<Hits, E> {
                    let wanted = format!("`hits` of a check must be a whole number from 0 to {}", u32::MAX);
                    Err(E::custom(format!("{wanted}, not {hits}: only those of a descriptor may give back")))
                }
            }
            from.deserialize_u32(Number)
        }
    }

    pub(in crate::front::api) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
        Ok(Option::<Hits>::deserialize(from)?.map(|Hits(hits)| hits))
    }
}

/// Entries: `{"user": "alice"}`, or `[{"key": "user", "value": "alice"}]` where a key occurs twice.
pub(super) mod entries {
    use std::fmt;

    use serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::{MapAccess, SeqAccess, Visitor, value::SeqAccessDeserializer},
        ser::SerializeMap,
    };

    use crate::front::api::Entry;

    pub(in crate::front::api) fn serialize<S: Serializer>(entries: &[Entry], out: S) -> Result<S::Ok, S::Error> {
        let repeats = |(at, entry): (usize, &Entry)| entries[..at].iter().any(|earlier| earlier.key == entry.key);
        if entries.iter().enumerate().any(repeats) {
            return entries.serialize(out);
        }
        let mut map = out.serialize_map(Some(entries.len()))?;
        for entry in entries {
            map.serialize_entry(&entry.key, &entry.value)?;
        }
        map.end()
    }

    pub(in crate::front::api) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Entry>, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vec<Entry>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a map of keys to values, or a list of {\"key\": …, \"value\": …}")
            }

            /// In the order of the text, and a key as often as it is there.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Entry>, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry()? {
                    entries.push(Entry { key, value });
                }
                Ok(entries)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<Entry>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list))
            }
        }
        from.deserialize_any(Entries)
    }
}

/// One limit or a list of them; a limit in one word is a string.
pub(super) mod limits {
    use std::fmt;

    use serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::{
            DeserializeSeed, Error, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
            value::{MapAccessDeserializer, SeqAccessDeserializer},
        },
    };
    use serde_json::Value;

    use crate::front::api::Limit;

    /// A limit in either form.
    struct LimitJson(Limit);

    impl Serialize for LimitJson {
        fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
            form(&self.0, out)
        }
    }

    impl<'de> Deserialize<'de> for LimitJson {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<LimitJson, D::Error> {
            struct One;
            impl<'de> Visitor<'de> for One {
                type Value = LimitJson;

                fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                    out.write_str("a limit: \"300/m\", or a map")
                }

                fn visit_str<E: Error>(self, text: &str) -> Result<LimitJson, E> {
                    word(text).map(LimitJson)
                }

                fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LimitJson, A::Error> {
                    limit(map).map(LimitJson)
                }
            }
            from.deserialize_any(One)
        }
    }

    pub(in crate::front::api) fn serialize<S: Serializer>(limits: &[Limit], out: S) -> Result<S::Ok, S::Error> {
        match limits {
            [one] => form(one, out),
            _ => out.collect_seq(limits.iter().cloned().map(LimitJson)),
        }
    }

    pub(in crate::front::api) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Limit>, D::Error> {
        struct Limits;
        impl<'de> Visitor<'de> for Limits {
            type Value = Vec<Limit>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a limit (\"300/m\", or a map) or a list of limits")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Vec<Limit>, E> {
                Ok(vec![word(text)?])
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<Limit>, A::Error> {
                Ok(vec![limit(map)?])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<Limit>, A::Error> {
                let forms = Vec::<LimitJson>::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(forms.into_iter().map(|LimitJson(limit)| limit).collect())
            }
        }
        from.deserialize_any(Limits)
    }

    fn form<S: Serializer>(limit: &Limit, out: S) -> Result<S::Ok, S::Error> {
        // What stands beside the word must not be lost on the way: the reader of limits refuses it by name.
        let is_word = *limit == Limit { short: limit.short.clone(), ..Limit::default() };
        if is_word && !limit.short.is_empty() { out.serialize_str(&limit.short) } else { limit.serialize(out) }
    }

    fn limit<'de, A: MapAccess<'de>>(map: A) -> Result<Limit, A::Error> {
        Limit::deserialize(MapAccessDeserializer::new(WithShare { map, share: None }))
    }

    /// The entries of a map, in which `enforce` may also be a share: that is `enforce_share` of the message.
    struct WithShare<A> {
        map: A,
        /// The share whose key was just handed out.
        share: Option<Value>,
    }

    impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithShare<A> {
        type Error = A::Error;

        fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
            let Some(key) = self.map.next_key::<String>()? else { return Ok(None) };
            let mut key = key.as_str();
            if key == "enforce" {
                let value: Value = self.map.next_value()?;
                key = if value.is_string() { "enforce_share" } else { key };
                self.share = Some(value);
            }
            seed.deserialize(key.into_deserializer()).map(Some)
        }

        fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
            match self.share.take() {
                Some(share) => seed.deserialize(share).map_err(A::Error::custom),
                None => self.map.next_value_seed(seed),
            }
        }
    }

    fn word<E: Error>(text: &str) -> Result<Limit, E> {
        if text.is_empty() {
            return Err(E::custom("an empty text is no limit: write it as \"300/m\""));
        }
        Ok(Limit { short: text.to_owned(), ..Limit::default() })
    }
}

/// `auto`, `reported`, `true` or `false`; the last two may be booleans, and are written so, as rule files have them.
pub(super) mod count_denied {
    use std::fmt;

    use serde::{
        Deserializer, Serializer,
        de::{Error, Visitor},
    };

    pub(in crate::front::api) fn serialize<S: Serializer>(when: &str, out: S) -> Result<S::Ok, S::Error> {
        match when {
            "true" => out.serialize_bool(true),
            "false" => out.serialize_bool(false),
            other => out.serialize_str(other),
        }
    }

    pub(in crate::front::api) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        struct When;
        impl Visitor<'_> for When {
            type Value = String;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("auto, reported, true or false")
            }

            fn visit_bool<E: Error>(self, when: bool) -> Result<String, E> {
                Ok(when.to_string())
            }

            fn visit_str<E: Error>(self, when: &str) -> Result<String, E> {
                Ok(when.to_owned())
            }
        }
        from.deserialize_any(When)
    }
}
