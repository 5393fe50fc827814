//! Values that are shown as a hash: whoever looks sees that it is the same client, and not who. It knows keys, values and
//! the secret, and nothing of what is shown where.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeSet, fmt, sync::Arc};

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// A shorter secret could be found by trying: whoever has a hash and the value that it is of could then hash others.
pub const SECRET_BYTES_MIN: usize = 32;

/// Which keys' values are shown as a hash. Cheap to clone; the default shows every value as it is.
#[derive(Clone, Default)]
pub struct Privacy(Option<Arc<HashedKeys>>);

struct HashedKeys {
    keys: BTreeSet<Box<str>>,
    /// Has taken the secret in, so that a hash costs two blocks.
    mac: Hmac<Sha256>,
}

/// The secret has fewer than [`SECRET_BYTES_MIN`] bytes: so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its secret has {0} bytes, and needs at least {SECRET_BYTES_MIN}: `openssl rand -hex 32` makes one")]
pub struct ShortSecret(pub usize);

impl Privacy {
    /// Shows the values of these `keys` as their hash under `secret`; line ends around the secret are no part of it.
    pub fn new(keys: impl IntoIterator<Item = Box<str>>, secret: &[u8]) -> Result<Privacy, ShortSecret> {
        let secret = secret.trim_ascii();
        if secret.len() < SECRET_BYTES_MIN {
            return Err(ShortSecret(secret.len()));
        }
        let mac = Hmac::new_from_slice(secret).expect("HMAC takes secrets of every length");
        Ok(Privacy(Some(Arc::new(HashedKeys { keys: keys.into_iter().collect(), mac }))))
    }

    /// Whether there are keys whose values are hashed.
    pub fn hides_values(&self) -> bool {
        self.0.is_some()
    }

    /// The value of an entry with this `key`, as it may be shown: `~` and 16 hexadecimal digits, if the key is hashed.
    pub fn shown<'v>(&self, key: &str, value: &'v str) -> Cow<'v, str> {
        match &self.0 {
            Some(hashed) if hashed.keys.contains(key) => Cow::Owned(hashed.hash(value)),
            _ => Cow::Borrowed(value),
        }
    }
}

impl HashedKeys {
    fn hash(&self, value: &str) -> String {
        let mut mac = self.mac.clone();
        mac.update(value.as_bytes());
        format!("~{}", hex::encode(&mac.finalize().into_bytes()[..8]))
    }
}

impl fmt::Debug for Privacy {
    /// The secret is no part of it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Privacy").field(&self.0.as_ref().map(|hashed| &hashed.keys)).finish()
    }
}
