//! Who may call what: tokens, known by their SHA-256, and the scopes of each. It knows nothing of HTTP or gRPC but the
//! text of `authorization`, and never holds a token longer than it takes to hash it.

mod tokens;

use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};

pub use tokens::{Scope, Tokens, TokensError};

use super::problem::ApiError;

/// Authenticates callers. Cheap to clone; a change of the tokens reaches every clone.
#[derive(Clone)]
pub struct Authenticator {
    /// The tokens; `None` without a token file.
    tokens: Option<Arc<ArcSwap<Tokens>>>,
    checks_are_open: bool,
}

/// A caller, and what its token allows.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Name of the token, for the audit.
    pub name: Arc<str>,
    scopes: Arc<[tokens::TokenScope]>,
}

impl Authenticator {
    pub fn new(tokens: Option<Arc<ArcSwap<Tokens>>>, checks_are_open: bool) -> Authenticator {
        Authenticator { tokens, checks_are_open }
    }

    /// Whether callers without a token may check.
    pub fn checks_are_open(&self) -> bool {
        self.checks_are_open
    }

    /// The caller that sends this `authorization`.
    pub fn authenticate(&self, authorization: Option<&str>) -> Result<Caller, ApiError> {
        let Some(tokens) = &self.tokens else {
            return Err(unauthenticated(
                "this call needs a token, and the service knows none: start it with --api-token-file",
            ));
        };
        let Some(authorization) = authorization else {
            return Err(unauthenticated("this call needs a token: send `authorization: Bearer <token>`"));
        };
        let token = match authorization.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(unauthenticated("`authorization` must be `Bearer <token>`")),
        };
        let digest = Sha256::digest(token.as_bytes()).into();
        tokens.load().find(&digest).ok_or_else(|| unauthenticated("the token isn't known here"))
    }
}

impl Caller {
    fn new(name: Arc<str>, scopes: Arc<[tokens::TokenScope]>) -> Caller {
        Caller { name, scopes }
    }

    /// The program that embeds Tollgate, which may do everything.
    pub(super) fn embedding_program() -> Caller {
        Caller::new("(embedded)".into(), Arc::from([]))
    }

    /// Checks that the caller may do this in a domain; `None` is all domains.
    pub fn require(&self, scope: Scope, domain: Option<&str>) -> Result<(), ApiError> {
        if self.scopes.iter().any(|granted| granted.allows(scope, domain)) {
            return Ok(());
        }
        let of = domain.map(|domain| format!(" or {}@{domain}", scope.name())).unwrap_or_default();
        Err(ApiError::Forbidden(format!("token {} lacks the scope {}{of}", self.name, scope.name())))
    }

    /// As [`Caller::require`], for a domain that the caller didn't name and must not learn.
    pub(super) fn require_in_unnamed(&self, scope: Scope, domain: &str) -> Result<(), ApiError> {
        self.require(scope, Some(domain)).map_err(|_| {
            let (token, scope) = (&self.name, scope.name());
            ApiError::Forbidden(format!("token {token} lacks the scope {scope} where no domain is named: name yours"))
        })
    }
}

fn unauthenticated(why: &str) -> ApiError {
    ApiError::Unauthenticated(why.to_owned())
}
