//! Who is signed in: a token that was checked once stands in a cookie that no script can read, and the calls that come with
//! that cookie are made with that token. Nothing is kept here, so that a token that is taken back ends its sessions.

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Json, Response},
    routing::get,
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::Console;
use crate::front::api::{ApiError, Caller, authorization, read_json};

/// How long a session lasts, in seconds: 8 h, a shift.
const LASTS_SECONDS: u32 = 8 * 3_600;

/// Longer tokens would not fit into a cookie, however they are written.
const TOKEN_BYTES_MAX: usize = 1_024;

/// The cookie of a listener's sessions. Browsers send one listener's cookies to the others of its host too, so each has a
/// name of its own.
#[derive(Clone, Copy)]
pub(super) struct SessionCookie {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    /// Whether it is sent over TLS only.
    pub(super) secure: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignInRequest {
    token: String,
}

/// What the page may offer. Who may not look learns nothing of the service.
#[derive(Serialize)]
struct SessionView {
    /// Name of the token; `None` if nobody is signed in.
    token: Option<String>,
    /// Whether one may look without a token.
    looks_without_token: bool,
    /// Whether the service knows any tokens.
    takes_tokens: bool,
    scopes: Vec<GrantView>,
    /// The loaded domains that may be seen.
    domains: Vec<String>,
    default_domain: Option<String>,
    fleet: String,
    version: &'static str,
}

#[derive(Serialize)]
struct GrantView {
    scope: &'static str,
    /// `None` is all domains.
    domain: Option<String>,
}

pub(super) fn routes(console: Console) -> Router {
    let methods = get(session).post(sign_in).delete(sign_out);
    Router::new().route("/session", methods.layer(DefaultBodyLimit::max(16 << 10))).with_state(console)
}

/// Who is signed in, by the cookie.
async fn session(State(console): State<Console>, headers: HeaderMap) -> Response {
    let token = console.cookie.token(&headers);
    let caller = token.and_then(|token| console.api.authenticator.known(Some(&bearer(&token))).ok());
    console.view(caller).into_response()
}

/// Checks a token, and keeps it in the cookie.
async fn sign_in(State(console): State<Console>, headers: HeaderMap, body: Bytes) -> Response {
    // What a form of another site can send is none.
    let is_json =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let read = || -> Result<(String, Caller), ApiError> {
        let asked = read_json::<SignInRequest>(&body).ok().filter(|_| is_json);
        let form = r#"send {"token": "…"} as application/json"#;
        let token = asked.ok_or_else(|| ApiError::invalid("body", "it brings no token", form))?.token;
        let is_possible = (1..=TOKEN_BYTES_MAX).contains(&token.len()) && !token.contains(char::is_control);
        if !is_possible {
            let hint = format!("it has 1 to {TOKEN_BYTES_MAX} bytes, all of them visible");
            return Err(ApiError::invalid("token", "this is no token", hint));
        }
        let caller = console.api.authenticator.known(Some(&bearer(&token)))?;
        Ok((token, caller))
    };
    match read() {
        Ok((token, caller)) => {
            tracing::info!(token = &*caller.name, "signed in to the console");
            ([(header::SET_COOKIE, console.cookie.set(&token))], console.view(Some(caller))).into_response()
        }
        Err(error) => error.into_response(),
    }
}

async fn sign_out(State(console): State<Console>) -> Response {
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, console.cookie.cleared())]).into_response()
}

/// A call with the cookie is one with its token. One that brings a token itself keeps that.
pub(super) async fn cookie_as_authorization(
    State(cookie): State<SessionCookie>,
    mut request: Request,
    next: Next,
) -> Response {
    if authorization(request.headers()).is_none()
        && let Some(token) = cookie.token(request.headers())
        && let Ok(mut value) = HeaderValue::try_from(bearer(&token))
    {
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    // A browser keeps nothing of what a token shows.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

impl SessionCookie {
    /// The token of the session that a request belongs to.
    fn token(&self, headers: &HeaderMap) -> Option<String> {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut cookies = lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        let (_, value) = cookies.find(|(name, _)| *name == self.name)?;
        let token = percent_decode_str(value).decode_utf8().ok()?;
        Some(token.into_owned()).filter(|token| !token.is_empty())
    }

    fn set(&self, token: &str) -> String {
        self.written(&utf8_percent_encode(token, NON_ALPHANUMERIC).to_string(), LASTS_SECONDS)
    }

    fn cleared(&self) -> String {
        self.written("", 0)
    }

    fn written(&self, value: &str, lasts: u32) -> String {
        let SessionCookie { name, path, secure } = self;
        let secure = if *secure { "; Secure" } else { "" };
        format!("{name}={value}; Path={path}; Max-Age={lasts}; HttpOnly; SameSite=Strict{secure}")
    }
}

impl Console {
    fn view(&self, caller: Option<Caller>) -> Response {
        let authenticator = &self.api.authenticator;
        let name = caller.as_ref().map(|caller| caller.name.to_string());
        // The admin listener lets everybody look, beside what a token allows.
        let known = caller
            .map_or_else(|| authenticator.authenticate(None).ok(), |caller| Some(authenticator.seen_here(caller)));
        let (fleet, version) = match &known {
            Some(_) => (self.api.insight.fleet.to_string(), env!("CARGO_PKG_VERSION")),
            None => (String::new(), ""),
        };
        let (scopes, domains) =
            known.map(|caller| (caller.grants(), self.api.visible_domains(&caller))).unwrap_or_default();
        let default_domain = self.api.default_domain.as_deref().filter(|domain| domains.iter().any(|of| of == domain));
        let view = SessionView {
            token: name,
            looks_without_token: self.looks_without_token,
            takes_tokens: authenticator.takes_tokens(),
            scopes: scopes.into_iter().map(|(scope, domain)| GrantView { scope, domain }).collect(),
            default_domain: default_domain.map(str::to_owned),
            domains,
            fleet,
            version,
        };
        ([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response()
    }
}
