//! Tollgate's own API: checks in plain words, overrides, explanations, resets and the audit. Each call is one function
//! here, which decides who may call it; gRPC and HTTP only bring the request. It knows the limiter's terms, not how
//! connections are made.

mod audit;
mod auth;
mod bounds;
mod caller_limits;
mod changes;
mod check;
mod counters;
mod explain;
mod fleet;
mod grpc;
mod history;
mod http;
mod json;
mod limits;
mod override_id;
mod overrides;
mod page;
mod problem;
mod rule_files;
mod rule_text;
mod rules;
mod switches;
mod top;
mod watch;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

pub(crate) use crate::rules::star::write as write_match_value;
pub use auth::{Authenticator, Caller, Scope, Tokens, TokensError};
pub use caller_limits::CallerLimits;
pub use check::{CheckAnswer, ParsedCheck};
pub use explain::explain_request;
pub use grpc::service as grpc_service;
pub(crate) use http::authorization;
pub use http::router;
pub(crate) use json::{Misread, read as read_json};
pub(crate) use override_id::make as made_override_id;
pub use pb::*;
pub use problem::{ApiError, InvalidField, invalid_fields};
pub use top::Insight;

use crate::{
    blocking::blocking,
    clock,
    front::envoy,
    limiter::{Limiter, Snapshot},
};

/// The messages and the service of `tollgate.v1`, generated from its proto; their JSON form is that of HTTP.
#[allow(clippy::all, unreachable_pub, reason = "generated")]
mod pb {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/proto/generated/tollgate.v1.rs"));
}

/// In a path, the domain of calls that name none: the default, or the only one.
pub const UNNAMED_DOMAIN: &str = "-";

/// The API: what every call needs. There is one in the process, and one that only looks.
pub struct Api {
    /// Makes notes, so that answers can name their limit.
    pub limiter: Limiter,
    /// Bounds the checks that wait for the store; further ones are answered without it.
    pub admission: Arc<envoy::AdmissionControl>,
    /// Longest time that a check waits for the store.
    pub store_timeout: Duration,
    pub default_domain: Option<Box<str>>,
    pub authenticator: Authenticator,
    /// Bounds on limits that callers bring without a token.
    pub caller_limits: CallerLimits,
    /// What answers about this process are made of.
    pub insight: Arc<Insight>,
    /// Cancelled when answers that go on must end.
    pub ending: CancellationToken,
}

impl Api {
    /// The same for the admin listener: whoever reaches it may look, and changes need a token.
    pub fn to_look(&self) -> Api {
        Api {
            limiter: self.limiter.clone(),
            admission: Arc::clone(&self.admission),
            store_timeout: self.store_timeout,
            default_domain: self.default_domain.clone(),
            authenticator: self.authenticator.of_admin_listener(),
            insight: Arc::clone(&self.insight),
            ending: self.ending.clone(),
            caller_limits: CallerLimits::new(Duration::ZERO, 0),
        }
    }

    /// What is switched in the domains of a snapshot.
    pub(crate) fn switches(&self, snapshot: &Snapshot) -> Vec<LimitSwitch> {
        switches::list(self, snapshot, None).map(|listed| listed.switches).unwrap_or_default()
    }

    /// The loaded domains of which the caller may see something.
    pub(crate) fn visible_domains(&self, caller: &Caller) -> Vec<String> {
        let sees = |domain: &str| {
            let scopes = [Scope::InsightRead, Scope::OverridesRead, Scope::Explain, Scope::AuditRead, Scope::RulesRead];
            scopes.iter().any(|scope| caller.require(*scope, Some(domain)).is_ok())
        };
        let snapshot = self.limiter.snapshot();
        let domains = snapshot.rules.domains().iter().map(|domain| domain.name()).filter(|domain| sees(domain));
        domains.map(str::to_owned).collect()
    }

    /// The domain that a path names.
    fn in_path(&self, domain: String) -> String {
        let is_unnamed = domain == UNNAMED_DOMAIN && self.limiter.snapshot().rules.domain(&domain).is_none();
        if is_unnamed { String::new() } else { domain }
    }
}

/// The calls. `authorization` is the text of that header or metadata, if it came with one.
impl Api {
    pub async fn check(&self, authorization: Option<&str>, request: CheckRequest) -> Result<CheckAnswer, ApiError> {
        let arrived = clock::instant();
        let snapshot = self.limiter.snapshot();
        if !self.authenticator.checks_are_open() {
            let caller = self.authenticator.authenticate(authorization)?;
            self.domain_for(&caller, Scope::Check, &request.domain, &snapshot)?;
        }
        let asked = check::read(self, &snapshot, request)?;
        let words = asked.to_request();
        self.permit(authorization, &words).await?;
        check::check(self, &words, arrived).await
    }

    /// As [`Api::check`], for the program that embeds this one.
    pub(crate) async fn check_embedded(&self, request: CheckRequest) -> Result<CheckAnswer, ApiError> {
        let arrived = clock::instant();
        let asked = check::read(self, &self.limiter.snapshot(), request)?;
        check::check(self, &asked.to_request(), arrived).await
    }

    /// Whether a caller may check, for checks that don't come through here.
    pub fn may_check(&self, authorization: Option<&str>, domain: &str) -> Result<(), ApiError> {
        if self.authenticator.checks_are_open() {
            return Ok(());
        }
        self.authenticator.authenticate(authorization)?.require(Scope::Check, Some(domain))
    }

    pub async fn explain(
        &self,
        authorization: Option<&str>,
        request: CheckRequest,
    ) -> Result<ExplainResponse, ApiError> {
        let caller = self.authenticator.authenticate(authorization)?;
        let snapshot = self.limiter.snapshot();
        self.domain_for(&caller, Scope::Explain, &request.domain, &snapshot)?;
        explain::explain(self, &snapshot, request).await
    }

    pub async fn set_override(
        &self,
        authorization: Option<&str>,
        mut request: SetOverrideRequest,
    ) -> Result<SetOverrideResponse, ApiError> {
        let (caller, snapshot) = self.admit(authorization, Scope::OverridesWrite, &mut request.domain)?;
        self.set_override_as(&caller, &snapshot, request).await
    }

    /// As [`Api::set_override`], for the program that embeds this one. Without an id it gets the one that is made of
    /// its match.
    pub(crate) async fn set_override_embedded(
        &self,
        mut request: SetOverrideRequest,
    ) -> Result<SetOverrideResponse, ApiError> {
        let snapshot = self.limiter.snapshot();
        request.domain = self.domain(&request.domain, &snapshot)?.to_owned();
        if let Some(spec) = request.spec.as_ref().filter(|_| request.id.is_empty()) {
            request.id = override_id::make(&request.domain, spec);
        }
        self.set_override_as(&Caller::embedding_program(), &snapshot, request).await
    }

    async fn set_override_as(
        &self,
        caller: &Caller,
        snapshot: &Snapshot,
        request: SetOverrideRequest,
    ) -> Result<SetOverrideResponse, ApiError> {
        override_id::check_new(&request.id)?;
        bounds::check_spec(request.spec.as_ref())?;
        overrides::set(self, snapshot, caller, request).await
    }

    /// The key, and the id, of the default domain's rule for users.
    pub(crate) fn user_key(&self) -> Result<String, ApiError> {
        let snapshot = self.limiter.snapshot();
        let domain = self.domain("", &snapshot)?;
        let index = snapshot.rules.domain(domain).map_or(0, |index| index.0 as usize);
        let rules = &snapshot.rules.domains()[index];
        let key = rules.shortcuts().user[0][0].to_string();
        if rules.rule(&key).is_none() {
            let what =
                format!("domain `{domain}` has no rule `{key}`, whose limit one user's own would take the place of");
            let hint = format!(
                "add `- {{key: {key}, rate_limit: …}}` to its descriptors, or name their key in its `shortcuts`"
            );
            return Err(ApiError::invalid("user", what, hint));
        }
        Ok(key)
    }

    pub async fn get_override(
        &self,
        authorization: Option<&str>,
        mut request: GetOverrideRequest,
    ) -> Result<Override, ApiError> {
        let (_, snapshot) = self.admit(authorization, Scope::OverridesRead, &mut request.domain)?;
        override_id::check(&request.id)?;
        overrides::get(self, &snapshot, request).await
    }

    pub async fn list_overrides(
        &self,
        authorization: Option<&str>,
        mut request: ListOverridesRequest,
    ) -> Result<ListOverridesResponse, ApiError> {
        let (_, snapshot) = self.admit(authorization, Scope::OverridesRead, &mut request.domain)?;
        request.page_size = bounds::page_size(request.page_size)?;
        bounds::check_page_token(&request.page_token)?;
        bounds::check_filter(&request.key, &request.value_prefix)?;
        overrides::list(self, &snapshot, request).await
    }

    pub async fn delete_override(
        &self,
        authorization: Option<&str>,
        mut request: DeleteOverrideRequest,
    ) -> Result<DeleteOverrideResponse, ApiError> {
        let (caller, snapshot) = self.admit(authorization, Scope::OverridesWrite, &mut request.domain)?;
        override_id::check(&request.id)?;
        bounds::check_words("reason", &request.reason)?;
        overrides::delete(self, &snapshot, &caller, request).await
    }

    pub async fn reset_counter(
        &self,
        authorization: Option<&str>,
        mut request: ResetCounterRequest,
    ) -> Result<ResetCounterResponse, ApiError> {
        let (caller, snapshot) = self.admit(authorization, Scope::CountersReset, &mut request.domain)?;
        counters::reset(self, &snapshot, &caller, request).await
    }

    /// Without a domain, the entries of all domains that the caller may see.
    pub async fn list_audit(
        &self,
        authorization: Option<&str>,
        mut request: ListAuditRequest,
    ) -> Result<ListAuditResponse, ApiError> {
        let caller = self.authenticator.authenticate(authorization)?;
        let domains = match &*request.domain {
            "" => caller.domains(Scope::AuditRead)?,
            // What happened in a domain may be asked after its rules are gone.
            named => caller.require(Scope::AuditRead, Some(named)).map(|()| Some(vec![named]))?,
        };
        request.page_size = bounds::page_size(request.page_size)?;
        bounds::check_page_token(&request.page_token)?;
        audit::list(self, &request, domains).await
    }

    /// Without a domain, of all domains that the caller may see.
    pub async fn list_changes(
        &self,
        authorization: Option<&str>,
        mut request: ListChangesRequest,
    ) -> Result<ListChangesResponse, ApiError> {
        let caller = self.authenticator.authenticate(authorization)?;
        let snapshot = self.limiter.snapshot();
        let domains = self.seen_domains(&caller, Scope::AuditRead, &request.domain, &snapshot)?;
        request.page_size = bounds::page_size(request.page_size)?;
        changes::list(self, &snapshot, &request, domains).await
    }

    pub async fn set_switch(
        &self,
        authorization: Option<&str>,
        mut request: SetSwitchRequest,
    ) -> Result<SetSwitchResponse, ApiError> {
        // A dry run only looks: whoever may see what is switched may see what a switch would change.
        let looking = request.dry_run.then(|| self.admit(authorization, Scope::InsightRead, &mut request.domain));
        let (caller, snapshot) = match looking {
            Some(Ok(admitted)) => admitted,
            _ => self.admit(authorization, Scope::LimitsWrite, &mut request.domain)?,
        };
        switches::set(self, &snapshot, &caller, request).await
    }

    pub async fn restore_limit(
        &self,
        authorization: Option<&str>,
        mut request: RestoreLimitRequest,
    ) -> Result<RestoreLimitResponse, ApiError> {
        let (caller, snapshot) = self.admit(authorization, Scope::LimitsWrite, &mut request.domain)?;
        switches::restore(self, &snapshot, &caller, request).await
    }

    /// Without a domain, those of all domains that the caller may see.
    pub async fn list_switches(
        &self,
        authorization: Option<&str>,
        request: ListSwitchesRequest,
    ) -> Result<ListSwitchesResponse, ApiError> {
        let caller = self.authenticator.authenticate(authorization)?;
        let snapshot = self.limiter.snapshot();
        let domains = self.seen_domains(&caller, Scope::InsightRead, &request.domain, &snapshot)?;
        switches::list(self, &snapshot, domains.as_deref())
    }

    /// Without a domain, with what is switched in all domains that the caller may see.
    pub async fn get_fleet(
        &self,
        authorization: Option<&str>,
        request: GetFleetRequest,
    ) -> Result<GetFleetResponse, ApiError> {
        let caller = self.authenticator.authenticate(authorization)?;
        let snapshot = self.limiter.snapshot();
        let domains = self.seen_domains(&caller, Scope::InsightRead, &request.domain, &snapshot)?;
        fleet::get(self, &snapshot, domains.as_deref()).await
    }

    /// The domains that a caller looks at: the one that is named, else all that it may see (`None` is all).
    fn seen_domains<'a>(
        &'a self,
        caller: &'a Caller,
        scope: Scope,
        named: &'a str,
        snapshot: &'a Snapshot,
    ) -> Result<Option<Vec<&'a str>>, ApiError> {
        match named {
            "" => caller.domains(scope),
            named => {
                caller.require(scope, Some(named))?;
                Ok(Some(vec![self.domain(named, snapshot)?]))
            }
        }
    }

    /// What all requests came to on this replica is told to whoever may see one domain; a limit only to who may see its own.
    pub async fn get_history(
        &self,
        authorization: Option<&str>,
        request: GetHistoryRequest,
    ) -> Result<GetHistoryResponse, ApiError> {
        let caller = self.authenticator.authenticate(authorization)?;
        let domains = caller.domains(Scope::InsightRead)?;
        history::get(self, request, domains.as_deref()).await
    }

    /// Without a domain, of all domains that the caller may see.
    pub async fn list_limits(
        &self,
        authorization: Option<&str>,
        request: ListLimitsRequest,
    ) -> Result<ListLimitsResponse, ApiError> {
        let caller = self.authenticator.authenticate(authorization)?;
        let snapshot = self.limiter.snapshot();
        let domains = self.seen_domains(&caller, Scope::InsightRead, &request.domain, &snapshot)?;
        bounds::check_page_token(&request.page_token)?;
        limits::list(self, &snapshot, &request, domains.as_deref()).await
    }

    /// Without a domain, of all domains that the caller may see.
    pub async fn get_rules(
        &self,
        authorization: Option<&str>,
        request: GetRulesRequest,
    ) -> Result<GetRulesResponse, ApiError> {
        let caller = self.authenticator.authenticate(authorization)?;
        let snapshot = self.limiter.snapshot();
        let domains = self.seen_domains(&caller, Scope::RulesRead, &request.domain, &snapshot)?;
        let domains = domains.map(|domains| domains.into_iter().map(str::to_owned).collect::<Vec<_>>());
        // It goes through every rule.
        Ok(blocking(move || rule_files::get(&snapshot, domains.as_deref())).await)
    }

    /// A file of a domain that the caller may see.
    pub async fn get_rule_text(
        &self,
        authorization: Option<&str>,
        request: GetRuleTextRequest,
    ) -> Result<GetRuleTextResponse, ApiError> {
        let caller = self.authenticator.authenticate(authorization)?;
        let snapshot = self.limiter.snapshot();
        let domains = caller.domains(Scope::RulesRead)?;
        rule_text::read(&snapshot, &request, domains.as_deref())
    }

    /// Without a domain, of all domains that the caller may see.
    pub async fn top(&self, authorization: Option<&str>, request: TopRequest) -> Result<TopResponse, ApiError> {
        let caller = self.authenticator.authenticate(authorization)?;
        let snapshot = self.limiter.snapshot();
        let domains = self.seen_domains(&caller, Scope::InsightRead, &request.domain, &snapshot)?;
        let fleet = self.limiter.run_time().map(|run_time| &*run_time.fleet);
        self.insight.top(&snapshot, &request, domains, fleet).await
    }

    /// Without a domain, of all domains that the caller may see.
    pub async fn watch_decisions(
        &self,
        authorization: Option<&str>,
        request: WatchDecisionsRequest,
    ) -> Result<watch::Watching, ApiError> {
        let caller = self.authenticator.authenticate(authorization)?;
        let snapshot = self.limiter.snapshot();
        let domains = self.seen_domains(&caller, Scope::InsightRead, &request.domain, &snapshot)?;
        watch::begin(self, &snapshot, &request, domains).await
    }

    /// The caller, if it may do this in the domain of the request, which is then filled in.
    fn admit(
        &self,
        authorization: Option<&str>,
        scope: Scope,
        domain: &mut String,
    ) -> Result<(Caller, Arc<Snapshot>), ApiError> {
        let caller = self.authenticator.authenticate(authorization)?;
        let snapshot = self.limiter.snapshot();
        *domain = self.domain_for(&caller, scope, domain, &snapshot)?.to_owned();
        Ok((caller, snapshot))
    }

    /// The domain of a call, if the caller may use it. Whether it is loaded is only revealed to such callers: a token
    /// of one domain must not learn which others there are.
    fn domain_for<'a>(
        &'a self,
        caller: &Caller,
        scope: Scope,
        named: &'a str,
        snapshot: &'a Snapshot,
    ) -> Result<&'a str, ApiError> {
        let meant = self.meant(named, snapshot)?;
        if named.is_empty() {
            caller.require_in_unnamed(scope, meant)?;
        } else {
            caller.require(scope, Some(meant))?;
        }
        self.loaded(meant, snapshot)
    }

    /// The domain of a call, which must be loaded.
    fn domain<'a>(&'a self, named: &'a str, snapshot: &'a Snapshot) -> Result<&'a str, ApiError> {
        self.loaded(self.meant(named, snapshot)?, snapshot)
    }

    /// The domain of a call: the one that is named, else the default, else the only one.
    fn meant<'a>(&'a self, named: &'a str, snapshot: &'a Snapshot) -> Result<&'a str, ApiError> {
        if snapshot.version == 0 {
            return Err(ApiError::Unavailable("no rules are loaded yet".into()));
        }
        match (named, &self.default_domain, snapshot.rules.domains()) {
            ("", Some(default), _) => Ok(default),
            ("", None, [only]) => Ok(only.name()),
            ("", None, _) => {
                let hint = "or start the service with --default-domain";
                Err(ApiError::invalid("domain", "name a domain: more than one is loaded, or none", hint))
            }
            (named, ..) => Ok(named),
        }
    }

    fn loaded<'a>(&self, domain: &'a str, snapshot: &Snapshot) -> Result<&'a str, ApiError> {
        match snapshot.rules.domain(domain) {
            Some(_) => Ok(domain),
            None => {
                self.limiter.metrics().unknown_domain(domain);
                Err(ApiError::NotFound(format!("no rule file is for domain `{}`", bounds::shown(domain))))
            }
        }
    }
}
