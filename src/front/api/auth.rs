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
    /// Everybody is an operator who looks, with a token or without.
    is_of_admin_listener: bool,
}

/// A caller, and what its token allows.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Name of the token, for the audit.
    pub name: Arc<str>,
    scopes: Arc<[tokens::TokenScope]>,
    is_of_admin_listener: bool,
}

impl Authenticator {
    pub fn new(tokens: Option<Arc<ArcSwap<Tokens>>>, checks_are_open: bool) -> Authenticator {
        Authenticator { tokens, checks_are_open, is_of_admin_listener: false }
    }

    /// The same tokens on the admin listener: whoever reaches it may look, and only a token may do more.
    pub fn of_admin_listener(&self) -> Authenticator {
        Authenticator { tokens: self.tokens.clone(), checks_are_open: false, is_of_admin_listener: true }
    }

    /// Whether there are tokens that it could know.
    pub(crate) fn takes_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Whether callers without a token may check.
    pub fn checks_are_open(&self) -> bool {
        self.checks_are_open
    }

    /// The caller that sends this `authorization`.
    pub fn authenticate(&self, authorization: Option<&str>) -> Result<Caller, ApiError> {
        if self.is_of_admin_listener {
            // A token that isn't known allows nothing, and takes nothing away from whoever looks.
            return Ok(self.known(authorization).map_or_else(|_| Caller::operator(), Caller::and_operator));
        }
        self.known(authorization)
    }

    /// What a caller whose token is known may do on this listener.
    pub(crate) fn seen_here(&self, caller: Caller) -> Caller {
        if self.is_of_admin_listener { caller.and_operator() } else { caller }
    }

    /// The caller whose token this `authorization` brings, on any listener.
    pub(crate) fn known(&self, authorization: Option<&str>) -> Result<Caller, ApiError> {
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
        Caller { name, scopes, is_of_admin_listener: false }
    }

    /// Whoever reaches the admin listener.
    fn operator() -> Caller {
        let scopes = Scope::LOOKING.iter().map(|scope| tokens::TokenScope::everywhere(*scope)).collect();
        Caller { name: "(admin)".into(), scopes, is_of_admin_listener: true }
    }

    /// The same caller, who may also look everywhere.
    fn and_operator(self) -> Caller {
        let looking = Scope::LOOKING.map(tokens::TokenScope::everywhere);
        Caller::new(self.name, self.scopes.iter().cloned().chain(looking).collect())
    }

    /// Each scope that the caller has, with its parts, and the domain that it is for; `None` is all domains.
    pub(crate) fn grants(&self) -> Vec<(&'static str, Option<String>)> {
        let mut grants = Vec::new();
        for scope in Scope::ALL {
            let domains = self.scopes.iter().filter(|granted| granted.allows_somewhere(scope));
            grants.extend(domains.map(|granted| (scope.name(), granted.domain().map(str::to_owned))));
        }
        grants.dedup();
        grants
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
        if self.is_of_admin_listener {
            let what =
                "the admin listener only looks where no token that it knows is sent: changes and checks need one";
            return Err(ApiError::Forbidden(what.to_owned()));
        }
        let of = domain.map(|domain| format!(" or {}@{domain}", scope.name())).unwrap_or_default();
        Err(ApiError::Forbidden(format!("token {} lacks the scope {}{of}", self.name, scope.name())))
    }

    /// The domains in which the caller may do this, which are some; `None` is all domains.
    pub fn domains(&self, scope: Scope) -> Result<Option<Vec<&str>>, ApiError> {
        let granted = || self.scopes.iter().filter(|granted| granted.allows_somewhere(scope));
        if granted().next().is_none() {
            self.require(scope, None)?;
        }
        Ok(granted().map(tokens::TokenScope::domain).collect())
    }

    /// As [`Caller::require`], for a domain that the caller didn't name and must not learn.
    pub(super) fn require_in_unnamed(&self, scope: Scope, domain: &str) -> Result<(), ApiError> {
        self.require(scope, Some(domain)).map_err(|error| {
            if self.is_of_admin_listener {
                return error;
            }
            let (token, scope) = (&self.name, scope.name());
            ApiError::Forbidden(format!("token {token} lacks the scope {scope} where no domain is named: name yours"))
        })
    }
}

fn unauthenticated(why: &str) -> ApiError {
    ApiError::Unauthenticated(why.to_owned())
}
