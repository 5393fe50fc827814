//! The calls about overrides, as HTTP has them.

use anyhow::bail;
use http::header::{IF_MATCH, IF_NONE_MATCH};

use crate::{
    cli::ask::{AskError, Call, Service, escaped},
    front::api::{ListOverridesResponse, Override, OverrideSpec, UNNAMED_DOMAIN, made_override_id},
};

/// Overrides in one answer.
const PAGE: u32 = 1_000;

/// Under which condition an override is set.
#[derive(Clone, Copy, Default)]
pub(super) struct Condition<'a> {
    /// Empty: none.
    pub(super) if_match: &'a str,
    pub(super) create_only: bool,
}

fn collection(domain: &str) -> String {
    let domain = if domain.is_empty() { UNNAMED_DOMAIN } else { domain };
    format!("/v1/domains/{}/overrides", escaped(domain))
}

pub(super) fn path(domain: &str, id: &str) -> String {
    format!("{}/{}", collection(domain), escaped(id))
}

pub(super) async fn set(
    service: &Service,
    (domain, id): (&str, &str),
    spec: &OverrideSpec,
    condition: Condition<'_>,
    dry_run: bool,
) -> Result<Override, AskError> {
    let mut call = Call::put(format!("{}?dry_run={dry_run}", path(domain, id)), spec);
    call = match condition.if_match {
        "" => call,
        "*" => call.header(IF_MATCH, "*"),
        etag => call.header(IF_MATCH, format!("\"{etag}\"")),
    };
    if condition.create_only {
        call = call.header(IF_NONE_MATCH, "*");
    }
    service.ask(call).await
}

pub(super) async fn delete(
    service: &Service,
    domain: &str,
    id: &str,
    reason: &str,
    dry_run: bool,
) -> Result<Override, AskError> {
    let path = format!("{}?dry_run={dry_run}&reason={}", path(domain, id), escaped(reason));
    service.ask(Call::delete(path)).await
}

/// The domain that is meant, where an id depends on it: a rule may be named with its domain. Asked of the service by a dry
/// run; what it refuses is told by the call that follows.
pub(super) async fn domain_of(service: &Service, named: &str, spec: &OverrideSpec) -> String {
    if !named.is_empty() || !spec.rule.contains('/') {
        return named.to_owned();
    }
    let id = made_override_id("", spec);
    let saved = set(service, ("", &id), spec, Condition::default(), true).await;
    saved.map(|saved| saved.domain).unwrap_or_default()
}

/// Page by page.
pub(super) async fn all(
    service: &Service,
    domain: &str,
    key: &str,
    value_prefix: &str,
) -> anyhow::Result<Vec<Override>> {
    let (mut overrides, mut page_token) = (Vec::new(), String::new());
    let filter = format!("page_size={PAGE}&key={}&value_prefix={}", escaped(key), escaped(value_prefix));
    loop {
        let path = format!("{}?{filter}&page_token={}", collection(domain), escaped(&page_token));
        let page: ListOverridesResponse = service.ask(Call::get(path)).await?;
        overrides.extend(page.overrides);
        match page.next_page_token {
            end if end.is_empty() => return Ok(overrides),
            same if same == page_token => bail!("the service gives the same page again"),
            next => page_token = next,
        }
    }
}
