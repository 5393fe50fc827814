//! Which requests the admin listener takes for an operator's own. It has no login, and a browser on the operator's machine
//! reaches it too: a page whose name was made to resolve to this machine must not read rules (`Host`), and no page of
//! another site may have anything done (`Origin`).

#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Names by which the admin listener may be called, besides addresses and `localhost`. In lower case, without a port.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts(Arc<[Box<str>]>);

impl AllowedHosts {
    pub fn new(names: &[String]) -> AllowedHosts {
        AllowedHosts(names.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase().into()).collect())
    }

    fn allows(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let name = bare.trim_end_matches('.');
        let is_ours = |own: &str| own.eq_ignore_ascii_case(name);
        bare.parse::<IpAddr>().is_ok() || is_ours("localhost") || self.0.iter().any(|own| is_ours(own))
    }

    /// What to answer instead, if the request isn't an operator's own.
    fn refusal(&self, request: &Request) -> Option<String> {
        // Without a host it comes from no browser. One in the request's line beats the header.
        let named = match request.uri().authority() {
            Some(authority) => Some(authority.as_str()),
            None => header(request.headers(), header::HOST),
        };
        if let Some(named) = named
            && !named.parse().is_ok_and(|authority| self.allows(&authority))
        {
            let shown: String = named.chars().take(SHOWN).collect();
            return Some(format!(
                "this listener isn't called `{}`: call it by an address or localhost, or name that in \
                 TOLLGATE_ADMIN_HOSTS\n",
                shown.escape_debug()
            ));
        }
        let origin = header(request.headers(), header::ORIGIN)?;
        let is_safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        let is_same =
            origin.split_once("://").is_some_and(|(_, site)| named.is_some_and(|it| it.eq_ignore_ascii_case(site)));
        (!is_safe && !is_same).then(|| "a page of another site may not ask for this\n".to_owned())
    }
}

/// Characters of a host that are told again.
const SHOWN: usize = 128;

/// What can't be read is no name of ours, and no origin of ours.
fn header(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let only = values.next().is_none();
    Some(Some(first).filter(|_| only).map(HeaderValue::to_str).and_then(Result::ok).unwrap_or_default())
}

/// Refuses what isn't an operator's own.
pub(super) async fn reject_foreign_requests(
    State(hosts): State<AllowedHosts>,
    request: Request,
    next: Next,
) -> Response {
    match hosts.refusal(&request) {
        Some(refusal) => (StatusCode::FORBIDDEN, refusal).into_response(),
        None => next.run(request).await,
    }
}
