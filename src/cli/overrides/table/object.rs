//! An override as one line of NDJSON: what its `spec` has, and its `id` beside that.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::front::api::OverrideSpec;

pub(super) struct Object {
    /// Empty where it has none.
    pub(super) id: String,
    pub(super) spec: OverrideSpec,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Object, D::Error> {
        struct Line;
        impl<'de> Visitor<'de> for Line {
            type Value = Object;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
                let mut id = String::new();
                let spec = OverrideSpec::deserialize(MapAccessDeserializer::new(WithoutId { map, id: &mut id }))?;
                Ok(Object { id, spec })
            }
        }
        from.deserialize_map(Line)
    }
}

/// The entries of a map but for `id`, which is taken out on the way: read at once, so that mistakes have their place.
struct WithoutId<'i, A> {
    map: A,
    id: &'i mut String,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutId<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        loop {
            match self.map.next_key::<String>()? {
                None => return Ok(None),
                Some(key) if key == "id" => *self.id = self.map.next_value()?,
                Some(key) => return seed.deserialize(key.into_deserializer()).map(Some),
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
