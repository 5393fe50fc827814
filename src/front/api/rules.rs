//! The rules as they are loaded, whole, for callers that may read them: those of one domain, or of all that the caller may
//! see.

use std::sync::Arc;

use serde_json::json;

use super::{Api, ApiError, Scope};
use crate::{front::full_rules, limiter::Snapshot, rules::Domain};

/// What is told: which snapshot, and of it the domains.
pub(super) struct WholeRules {
    snapshot: Arc<Snapshot>,
    domains: Vec<Arc<Domain>>,
}

impl Api {
    /// Without a domain, those of all domains that the caller may see.
    pub(super) fn whole_rules(&self, authorization: Option<&str>, named: &str) -> Result<WholeRules, ApiError> {
        let caller = self.authenticator.authenticate(authorization)?;
        let snapshot = self.limiter.snapshot();
        let seen = match named {
            "" => caller.domains(Scope::RulesRead)?,
            named => {
                caller.require(Scope::RulesRead, Some(named))?;
                Some(vec![self.domain(named, &snapshot)?])
            }
        };
        let is_seen = |domain: &&Arc<Domain>| seen.as_ref().is_none_or(|seen| seen.contains(&domain.name()));
        let domains = snapshot.rules.domains().iter().filter(is_seen).cloned().collect();
        Ok(WholeRules { snapshot, domains })
    }
}

impl WholeRules {
    pub(super) fn response(self) -> axum::response::Response {
        let WholeRules { snapshot, domains } = self;
        let head = json!({
            "version": snapshot.version,
            "hash": snapshot.rules.hash(),
            "loaded_at_seconds": snapshot.loaded_at.0 as f64 / 1e6,
            "process_defaults": full_rules::process_defaults(&snapshot.rules),
        });
        let is_kept = |domain: &Domain| snapshot.kept_domains.iter().any(|kept| **kept == *domain.name());
        let said =
            |domain: Arc<Domain>| (json!({"domain": domain.name(), "kept": is_kept(&domain)}).to_string(), domain);
        full_rules::response(head.to_string(), domains.into_iter().map(said).collect())
    }
}
