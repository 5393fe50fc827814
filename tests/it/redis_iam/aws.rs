//! AWS as an instance, a pod and a container see it: its metadata services, with credentials of a fixed secret; and the
//! token that these credentials sign, made here by the letter of Signature Version 4.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tollgate::limit::{UnixMicros, moment};

pub(super) const SECRET: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";
pub(super) const REGION: &str = "eu-central-1";

/// With what the services answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Fair,
    Failing,
    Silent,
}

struct Shared {
    mood: Mutex<Mood>,
    asked: AtomicUsize,
}

pub(super) struct Aws {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

impl Aws {
    pub(super) async fn start() -> Aws {
        let shared = Arc::new(Shared { mood: Mutex::new(Mood::Fair), asked: AtomicUsize::new(0) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let router = Router::new().fallback(answer).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Aws { address, shared }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn set(&self, mood: Mood) {
        *self.shared.mood.lock() = mood;
    }

    /// How often credentials were handed out.
    pub(super) fn asked_for_credentials(&self) -> usize {
        self.shared.asked.load(SeqCst)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let mood = *shared.mood.lock();
    match mood {
        Mood::Fair => {}
        Mood::Failing => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Silent => return std::future::pending().await,
    }
    let credentials = |key: &str| {
        shared.asked.fetch_add(1, SeqCst);
        format!(
            r#"{{"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z", "AccessKeyId": "{key}",
            "SecretAccessKey": "{SECRET}", "Token": "{key}-session", "Expiration": "2100-01-01T00:00:00Z"}}"#
        )
    };
    match (request.method().as_str(), request.uri().path().trim_end_matches('/')) {
        ("PUT", "/latest/api/token") => ([("x-aws-ec2-metadata-token-ttl-seconds", "21600")], "v2").into_response(),
        // Version 2 of the service knows nobody without its token.
        ("GET", path)
            if path.starts_with("/latest/") && !request.headers().contains_key("x-aws-ec2-metadata-token") =>
        {
            StatusCode::UNAUTHORIZED.into_response()
        }
        ("GET", "/latest/meta-data/placement/region") => REGION.into_response(),
        ("GET", "/latest/meta-data/iam/security-credentials") => "limits-role".into_response(),
        ("GET", "/latest/meta-data/iam/security-credentials/limits-role") => credentials("instance").into_response(),
        ("GET", "/computeMetadata/v1/instance/service-accounts/default/token")
            if request.headers().get("metadata-flavor").is_some_and(|flavor| flavor == "Google") =>
        {
            r#"{"access_token": "ya29.of-google", "expires_in": 3599, "token_type": "Bearer"}"#.into_response()
        }
        ("GET", "/metadata/identity/oauth2/token")
            if request.headers().contains_key("metadata")
                && request.uri().query() == Some("api-version=2018-02-01&resource=https%3A%2F%2Fredis.azure.com") =>
        {
            r#"{"access_token":"eyJ.of.azure","client_id":"","expires_in":"86399","token_type":"Bearer"}"#
                .into_response()
        }
        ("GET", "/container") => credentials("container").into_response(),
        ("POST", "") => {
            shared.asked.fetch_add(1, SeqCst);
            let made = format!(
                "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>web</AccessKeyId>\
                <SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>web-session</SessionToken>\
                <Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
                </AssumeRoleWithWebIdentityResponse>"
            );
            ([("content-type", "text/xml")], made).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// RFC 2104, with keys of at most a block.
fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let padded = |with: u8| -> Vec<u8> { (0..64).map(|nth| key.get(nth).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::digest([&padded(0x36), text.as_bytes()].concat());
    Sha256::digest([&padded(0x5c)[..], &inner].concat()).to_vec()
}

/// The token of the user `tollgate` for the cache `limits`, as the holder of `key` signs it at `second` (Unix time).
/// Credentials of the environment are somebody's own, and have no session.
pub(super) fn token(key: &str, second: u64) -> String {
    let time: String = moment::write(UnixMicros(second * 1_000_000)).replace(['-', ':'], "");
    let time = format!("{}Z", time.split(['Z', '.']).next().expect("a moment"));
    let day = &time[..8];
    let session = if key == "environment" { String::new() } else { format!("&X-Amz-Security-Token={key}-session") };
    let scope = format!("{day}/{REGION}/elasticache/aws4_request");
    let before = format!(
        "Action=connect&User=tollgate&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={time}\
        &X-Amz-Expires=900",
        format!("{key}/{scope}").replace('/', "%2F")
    );
    let nothing = hex(&Sha256::digest(b""));
    let canonical = format!("GET\n/\n{before}{session}&X-Amz-SignedHeaders=host\nhost:limits\n\nhost\n{nothing}");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let signing = [REGION, "elasticache", "aws4_request"]
        .into_iter()
        .fold(hmac(format!("AWS4{SECRET}").as_bytes(), day), |key, part| hmac(&key, part));
    let signature = hex(&hmac(&signing, &text));
    format!("limits/?{before}&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}{session}")
}
