//! The token file: a line for each token, `name:sha256:scope,scope`, with the SHA-256 of the token in hex. Everything
//! that is wrong with it is reported with its line, and never what else the line says.

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::Caller;

/// A permission that a token may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Check,
    Explain,
    OverridesRead,
    OverridesWrite,
    CountersReset,
    /// Refunds, which are negative hits.
    HitsReturn,
    AuditRead,
    /// Looking at the fleet: what is limited, by what, since when.
    InsightRead,
    /// Changing limits while they run.
    LimitsWrite,
    /// The rules as they are loaded.
    RulesRead,
}

impl Scope {
    pub const ALL: [Scope; 10] = [
        Scope::Check,
        Scope::Explain,
        Scope::OverridesRead,
        Scope::OverridesWrite,
        Scope::CountersReset,
        Scope::HitsReturn,
        Scope::AuditRead,
        Scope::InsightRead,
        Scope::LimitsWrite,
        Scope::RulesRead,
    ];

    /// Those that only look.
    pub(super) const LOOKING: [Scope; 3] = [Scope::InsightRead, Scope::AuditRead, Scope::RulesRead];

    /// The scopes that are a part of this one. Whoever may write may also read: otherwise nothing could be changed with
    /// care.
    const fn parts(self) -> &'static [Scope] {
        match self {
            Scope::OverridesWrite => &[Scope::OverridesRead],
            Scope::LimitsWrite => &[Scope::OverridesWrite, Scope::OverridesRead],
            Scope::InsightRead => &[Scope::Explain, Scope::OverridesRead],
            _ => &[],
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Scope::Check => "check",
            Scope::Explain => "explain",
            Scope::OverridesRead => "overrides.read",
            Scope::OverridesWrite => "overrides.write",
            Scope::CountersReset => "counters.reset",
            Scope::HitsReturn => "hits.return",
            Scope::AuditRead => "audit.read",
            Scope::InsightRead => "insight.read",
            Scope::LimitsWrite => "limits.write",
            Scope::RulesRead => "rules.read",
        }
    }
}

/// A scope of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenScope {
    /// The scope; `None` is all scopes.
    scope: Option<Scope>,
    /// The domain; `None` is all domains.
    domain: Option<Box<str>>,
}

impl TokenScope {
    /// For all domains.
    pub(super) fn everywhere(scope: Scope) -> TokenScope {
        TokenScope { scope: Some(scope), domain: None }
    }

    /// `overrides.write`, `overrides.write@checkout`, `*`.
    fn parse(text: &str) -> Result<TokenScope, String> {
        let (scope, domain) = match text.split_once('@') {
            Some((_, "")) => return Err(format!("scope `{text}` names no domain after `@`")),
            Some((scope, domain)) => (scope, Some(domain.into())),
            None => (text, None),
        };
        if scope == "*" {
            return Ok(TokenScope { scope: None, domain });
        }
        match Scope::ALL.into_iter().find(|known| known.name() == scope) {
            Some(scope) => Ok(TokenScope { scope: Some(scope), domain }),
            None => {
                let names = Scope::ALL.map(Scope::name).join(", ");
                Err(format!("there is no scope `{scope}`: it is one of {names}, or * for all"))
            }
        }
    }

    /// Whether it allows this in a domain; `None` is all domains.
    pub(super) fn allows(&self, wanted: Scope, domain: Option<&str>) -> bool {
        self.allows_somewhere(wanted) && self.domain.as_deref().is_none_or(|own| domain == Some(own))
    }

    /// Whether it allows this in its domain.
    pub(super) fn allows_somewhere(&self, wanted: Scope) -> bool {
        self.scope.is_none_or(|scope| scope == wanted || scope.parts().contains(&wanted))
    }

    /// The domain; `None` is all domains.
    pub(super) fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }
}

struct Token {
    digest: [u8; 32],
    name: Arc<str>,
    scopes: Arc<[TokenScope]>,
}

/// The tokens of a file.
#[derive(Default)]
pub struct Tokens {
    tokens: Vec<Token>,
}

/// The problems of a token file, each with its line, from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TokensError(pub Vec<(usize, String)>);

impl fmt::Display for TokensError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, what)) in self.0.iter().enumerate() {
            write!(out, "{}line {line}: {what}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl Tokens {
    /// Reads a whole file. Blank lines and lines that begin with `#` are skipped.
    pub fn parse(text: &str) -> Result<Tokens, TokensError> {
        let (mut tokens, mut wrong) = (Vec::<Token>::new(), Vec::new());
        let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
        for (number, line) in (1..).zip(lines.map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match token(line) {
                // It would be unclear which of the two counts.
                Ok(token) if tokens.iter().any(|other| other.digest == token.digest) => {
                    wrong.push((number, format!("the token of `{}` is in the file already", token.name)));
                }
                Ok(token) => tokens.push(token),
                Err(what) => wrong.push((number, what)),
            }
        }
        if wrong.is_empty() { Ok(Tokens { tokens }) } else { Err(TokensError(wrong)) }
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The token with this digest. All digests are compared, each in constant time, so that the time reveals nothing
    /// about how much of one was right.
    pub(super) fn find(&self, digest: &[u8; 32]) -> Option<Caller> {
        let mut found = u32::MAX;
        for (index, token) in (0u32..).zip(&self.tokens) {
            let same: Choice = token.digest.ct_eq(digest);
            found.conditional_assign(&index, same);
        }
        let token = self.tokens.get(found as usize)?;
        Some(Caller::new(Arc::clone(&token.name), Arc::clone(&token.scopes)))
    }
}

/// Reads a line. Errors repeat nothing of it but its scopes: a token that is there in the clear must not get into a
/// log.
fn token(line: &str) -> Result<Token, String> {
    let mut parts = line.splitn(3, ':');
    let (Some(name), Some(digest), Some(scopes)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("it must be name:sha256:scope,scope".into());
    };
    let name = name.trim();
    if name.is_empty() || name.len() > 64 || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
        return Err("the name must be 1 to 64 letters, digits, `-`, `.` or `_`".into());
    }
    let mut bytes = [0; 32];
    hex::decode_to_slice(digest.trim(), &mut bytes)
        .map_err(|_| format!("the second part of `{name}` isn't the SHA-256 of a token, 64 hexadecimal digits"))?;
    let scopes: Vec<&str> = scopes.split(',').map(str::trim).filter(|scope| !scope.is_empty()).collect();
    if scopes.is_empty() {
        return Err(format!("`{name}` has no scope, so it may nothing"));
    }
    let scopes: Vec<TokenScope> = scopes.into_iter().map(TokenScope::parse).collect::<Result<_, _>>()?;
    Ok(Token { digest: bytes, name: name.into(), scopes: scopes.into() })
}
