//! The console: a page for people who would rather look, on the same calls of the API as everybody's. It owns the page's
//! files, who is signed in, and what a browser is told about both; it knows nothing of what the calls answer.

mod page;
mod session;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};

use crate::front::api::{self, Api};

/// Nothing is loaded from elsewhere, nothing within the page is a script, and no page shows this one in a frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// Where the console is, which is what differs between the two listeners.
#[derive(Clone)]
struct Console {
    api: Arc<Api>,
    /// Whether a caller without a token may look.
    looks_without_token: bool,
    cookie: session::SessionCookie,
}

/// The console of the admin listener at `/`, with the calls that it makes. Whoever asks for `/` without being a browser
/// gets `index`.
pub(super) fn at_root(api: Arc<Api>, index: &'static str) -> Router {
    let cookie = session::SessionCookie { name: "tollgate_admin", path: "/", secure: false };
    let console = Console { api, looks_without_token: true, cookie };
    let home = async move |headers: HeaderMap| {
        if wants_html(&headers) {
            return page::index(&headers).await;
        }
        ([(header::VARY, "accept")], index).into_response()
    };
    routes(console).route("/", get(home).layer(middleware::from_fn(add_headers)))
}

/// The console of the HTTP listener, below `/console`. `has_tls` says whether that listener has.
pub(super) fn below_console(api: Arc<Api>, has_tls: bool) -> Router {
    let cookie = session::SessionCookie { name: "tollgate_console", path: "/console", secure: has_tls };
    let console = Console { api, looks_without_token: false, cookie };
    let home = get(async |headers: HeaderMap| page::index(&headers).await);
    let inner = routes(console).fallback(async || StatusCode::NOT_FOUND).layer(middleware::from_fn(reject_other_sites));
    Router::new()
        .route("/console", get(async || Redirect::permanent("/console/")))
        .route("/console/", home.layer(middleware::from_fn(add_headers)))
        .nest("/console", inner)
}

/// The page's files, the session, and the calls, in which a session's cookie stands for its token.
fn routes(console: Console) -> Router {
    let calls = api::router(Arc::clone(&console.api))
        .layer(middleware::from_fn_with_state(console.cookie, session::cookie_as_authorization));
    session::routes(console).merge(page::routes()).layer(middleware::from_fn(add_headers)).merge(calls)
}

fn wants_html(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains("text/html"))
}

/// What a browser may do with the page.
async fn add_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Refuses what a page of another site asks for: its browser would send along the cookie.
async fn reject_other_sites(request: Request, next: Next) -> Response {
    if is_of_other_site(&request) {
        return (StatusCode::FORBIDDEN, "a page of another site may not ask for this\n").into_response();
    }
    next.run(request).await
}

/// By what the browser says of it, which no page can change; else by the origin, which older browsers send of changes.
/// Without either it comes from no browser, and brings its token itself.
fn is_of_other_site(request: &Request) -> bool {
    let text = |name: HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    // To follow a link to the page is no call.
    let is_navigation =
        request.method() == Method::GET && text(HeaderName::from_static("sec-fetch-mode")) == Some("navigate");
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site")) {
        return !["same-origin", "none"].contains(&site) && !is_navigation;
    }
    let Some(origin) = text(header::ORIGIN) else { return false };
    let host = request.uri().authority().map(|authority| authority.as_str()).or_else(|| text(header::HOST));
    !origin.split_once("://").is_some_and(|(_, site)| host.is_some_and(|host| host.eq_ignore_ascii_case(site)))
}
