//! Tollgate's own interface as its clients see it: the real binary, over HTTP and gRPC.

mod bounds;
mod checks;
pub(crate) mod client;
mod embedded;
pub(crate) mod node;
mod openapi;
mod python;
mod replicas;
mod scopes;
mod tls;
mod tokens;

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::harness::{RulesDir, Tollgate};

/// A limit for each user, one for each user's logins, and one for checkouts.
pub(crate) const RULES: &str = "domain: api\n\
    descriptors:\n  \
    - key: user\n    rate_limit: {requests_per_unit: 3, unit: hour}\n    \
      descriptors:\n      \
      - {key: endpoint, value: /checkout, rate_limit: {requests_per_unit: 2, unit: hour}}\n      \
      - {key: action, value: login, rate_limit: {requests_per_unit: 4, unit: hour}}\n";

/// A line of a token file.
pub(crate) fn token_line(name: &str, token: &str, scopes: &str) -> String {
    let digest: String = Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}:{digest}:{scopes}\n")
}

/// Replaced whole, as a careful editor does.
pub(crate) fn write_tokens(file: &Path, lines: &str) {
    let temporary = file.with_extension("new");
    std::fs::write(&temporary, lines).expect("the directory is ours");
    std::fs::rename(temporary, file).expect("the directory is ours");
}

/// A Tollgate whose token `secret` may do everything.
pub(crate) async fn with_tokens(rules: &RulesDir, env: &[(&str, &str)]) -> Tollgate {
    let file = rules.path().join("tokens");
    write_tokens(&file, &token_line("ops", "secret", "*"));
    let env = [&[("TOLLGATE_API_TOKEN_FILE", file.to_str().expect("temporary paths are text"))][..], env].concat();
    Tollgate::start_with(rules.path(), &env).await
}
