//! A token: the address of a request to connect, signed (SigV4) in its query, without the scheme. It is a pure function
//! of the credentials and the time.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningParams, SigningSettings, sign};
use aws_sigv4::sign::v4;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{AwsIam, AwsService};
use crate::clock;
use crate::limit::UnixMicros;

/// The longest that AWS allows. The connection that it is made for needs a second of it.
const VALID_FOR: Duration = Duration::from_secs(900);

const SCHEME: &str = "http://";

/// What RFC 3986 lets stand as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Who signs, and for which region.
#[derive(Clone)]
pub(super) struct Signer {
    pub credentials: Credentials,
    pub region: String,
}

/// The token for a connection at `now`.
pub(super) fn presigned(iam: &AwsIam, signer: &Signer, now: UnixMicros) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("can't sign a token of AWS IAM: {error}");
    // AWS knows caches by their names in lower case.
    let cache = iam.cache_name.to_ascii_lowercase();
    let user = utf8_percent_encode(&iam.user, ENCODED);
    let resource = if iam.is_serverless { "&ResourceType=ServerlessCache" } else { "" };
    let url = format!("{SCHEME}{cache}/?Action=connect&User={user}{resource}");
    let mut request = http::Request::get(&url).body(()).map_err(|error| failed(&error))?;

    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(VALID_FOR);
    let identity = signer.credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(&signer.region)
        .name(match iam.service {
            AwsService::ElastiCache => "elasticache",
            AwsService::MemoryDb => "memorydb",
        })
        .time(clock::system_time(now))
        .settings(settings)
        .build()
        .map_err(|error| failed(&error))?;
    let signable = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(b""));
    let params = SigningParams::V4(params);
    let signed = sign(signable.map_err(|error| failed(&error))?, &params).map_err(|error| failed(&error))?;
    signed.into_parts().0.apply_to_request_http1x(&mut request);
    let signed = request.uri().to_string();
    Ok(signed.strip_prefix(SCHEME).map(str::to_owned).unwrap_or(signed))
}
