//! Tokens of AWS IAM, which ElastiCache and MemoryDB take in place of a password: a request to connect that is signed for
//! each connection. A task fetches the credentials that sign it and renews them, so that no connection waits for a
//! metadata service that has answered once. It knows no connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::RedisResult;

use super::faults::failed;

#[cfg(feature = "aws-iam")]
mod credentials;
#[cfg(all(test, feature = "aws-iam"))]
mod tests;
#[cfg(feature = "aws-iam")]
mod token;

/// Whether this build can make tokens: with the feature `aws-iam`.
pub const IS_BUILT_IN: bool = cfg!(feature = "aws-iam");

/// The service that the cache belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AwsService {
    #[default]
    ElastiCache,
    MemoryDb,
}

/// For whom a token is, and for which cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsIam {
    pub service: AwsService,
    /// The name of a serverless cache or of a MemoryDB cluster, or the id of a replication group; not an endpoint's.
    pub cache_name: String,
    /// The user's id, which is its name too.
    pub user: String,
    /// `None` is the region that AWS' own settings or the instance name.
    pub region: Option<String>,
    pub is_serverless: bool,
}

/// Makes the tokens of one Redis. Clones share the credentials.
#[derive(Clone)]
pub struct TokenSource(Arc<Shared>);

struct Shared {
    iam: AwsIam,
    /// Started by the first connection.
    #[cfg(feature = "aws-iam")]
    keeper: std::sync::OnceLock<credentials::Keeper>,
}

impl TokenSource {
    pub fn new(iam: AwsIam) -> TokenSource {
        TokenSource(Arc::new(Shared {
            iam,
            #[cfg(feature = "aws-iam")]
            keeper: std::sync::OnceLock::new(),
        }))
    }

    pub(super) fn user(&self) -> &str {
        &self.0.iam.user
    }

    /// A token for a connection that is made now. Waits only for the first credentials, up to `patience`.
    #[cfg(feature = "aws-iam")]
    pub(super) async fn token(&self, patience: Duration) -> RedisResult<String> {
        let Shared { iam, keeper } = &*self.0;
        let keeper = keeper.get_or_init(|| credentials::Keeper::start(iam.region.clone()));
        let signer = keeper.signer(patience).await.map_err(|why| failed(format!("no credentials of AWS: {why}")))?;
        token::presigned(iam, &signer, crate::clock::now()).map_err(failed)
    }

    /// The settings let nobody come here.
    #[cfg(not(feature = "aws-iam"))]
    pub(super) async fn token(&self, _: Duration) -> RedisResult<String> {
        Err(failed("this build has no tokens of AWS IAM".to_owned()))
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iam.fmt(f)
    }
}
