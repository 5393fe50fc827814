//! `ratelimit_client`: one request to any server of the rate limit service, and its answer in protobuf's text form.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use crate::proto::envoy::{
    extensions::common::ratelimit::v3::RateLimitDescriptor,
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse, rate_limit_response::DescriptorStatus,
        rate_limit_service_client::RateLimitServiceClient,
    },
};
use anyhow::{Context, bail};
use http::Uri;
use tokio::runtime;

use super::{Flag, GoFlags, Takes};
use crate::{cli::call, tls};

pub(super) const FLAGS: &[Flag] = &[
    ("dial_string", Takes::Text, "url of ratelimit server in <host>:<port> form (default \"localhost:8081\")"),
    ("domain", Takes::Text, "rate limit configuration domain to query"),
    ("descriptors", Takes::Text, "descriptor list to query in <key>=<value>,<key>=<value>,... form; repeatable"),
    ("oltp-protocol", Takes::Text, "accepted; there is nothing to trace"),
    ("grpc-server-ca-file", Takes::Text, "path to the server CA file for TLS connection"),
    ("grpc-use-tls", Takes::Switch, "whether to use TLS when connecting to the gRPC server"),
    ("grpc-cert-file", Takes::Text, "path to the client cert file for TLS connection"),
    ("grpc-key-file", Takes::Text, "path to the client key for TLS connection"),
];

/// What says who is who, and nothing in the clear.
const CERTIFICATES: [&str; 3] = ["grpc-server-ca-file", "grpc-cert-file", "grpc-key-file"];

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(given: &GoFlags) -> anyhow::Result<ExitCode> {
    let address = given.text("dial_string").unwrap_or("localhost:8081");
    let domain = given.text("domain").unwrap_or_default();
    let texts = given.all("descriptors");
    println!("dial string: {address}");
    println!("domain: {domain}");
    println!("descriptors: {texts:?}");
    let descriptors = texts.iter().map(|text| call::descriptor(text)).collect::<Result<Vec<_>, _>>();
    let descriptors = descriptors.map_err(anyhow::Error::msg).context("-descriptors")?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let response = runtime.block_on(send_request(given, address, domain, descriptors))?;
    println!("response: {}", in_text(&response));
    Ok(ExitCode::SUCCESS)
}

async fn send_request(
    given: &GoFlags,
    address: &str,
    domain: &str,
    descriptors: Vec<RateLimitDescriptor>,
) -> anyhow::Result<RateLimitResponse> {
    let is_secret = given.switch("grpc-use-tls");
    if let Some(flag) = CERTIFICATES.into_iter().find(|flag| given.text(flag).is_some()).filter(|_| !is_secret) {
        bail!("-grpc-use-tls is needed beside -{flag}: without it the service is spoken to in the clear");
    }
    let scheme = if is_secret { "https" } else { "http" };
    let uri = format!("{scheme}://{address}")
        .parse::<Uri>()
        .with_context(|| format!("-dial_string: '{address}' is no <host>:<port>"))?;
    let endpoint = tls::endpoint(uri).connect_timeout(PATIENCE).timeout(PATIENCE);
    let client = if is_secret { Some(client(given)?) } else { None };
    let channel = tls::channel(endpoint, client).await.map_err(anyhow::Error::msg);
    let channel = channel.with_context(|| format!("error connecting to {address}"))?;
    let request = RateLimitRequest { domain: domain.to_string(), descriptors, hits_addend: 1 };
    match RateLimitServiceClient::new(channel).should_rate_limit(request).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => bail!("request error: {:?}: {}", status.code(), status.message()),
    }
}

/// Trusts the authorities of the given file and no others, as the reference does; else those of the system.
fn client(given: &GoFlags) -> anyhow::Result<tls::ClientTls> {
    let path = |flag: &str| given.text(flag).map(PathBuf::from);
    let (certificate, key) = (path("grpc-cert-file"), path("grpc-key-file"));
    if certificate.is_some() != key.is_some() {
        bail!("-grpc-cert-file and -grpc-key-file go together");
    }
    let (ca, identity) = (path("grpc-server-ca-file"), certificate.zip(key));
    Ok(tls::ClientTls { ca, identity, protocols: &[tls::HTTP2], ..tls::ClientTls::default() })
}

/// As Go's protobuf prints a message in one line: fields that aren't set are left out.
fn in_text(response: &RateLimitResponse) -> String {
    let mut parts = vec![format!("overall_code:{}", response.overall_code().as_str_name())];
    parts.extend(response.statuses.iter().map(|status| format!("statuses:{{{}}}", status_in_text(status))));
    for header in &response.response_headers_to_add {
        parts.push(format!("response_headers_to_add:{{key:{:?} value:{:?}}}", header.key, header.value));
    }
    parts.join(" ")
}

fn status_in_text(status: &DescriptorStatus) -> String {
    let mut parts = vec![format!("code:{}", status.code().as_str_name())];
    if let Some(limit) = &status.current_limit {
        let name = if limit.name.is_empty() { String::new() } else { format!("name:{:?} ", limit.name) };
        let unit = limit.unit().as_str_name();
        parts.push(format!("current_limit:{{{name}requests_per_unit:{} unit:{unit}}}", limit.requests_per_unit));
    }
    if status.limit_remaining > 0 {
        parts.push(format!("limit_remaining:{}", status.limit_remaining));
    }
    if let Some(reset) = &status.duration_until_reset {
        parts.push(format!("duration_until_reset:{{seconds:{}}}", reset.seconds));
    }
    parts.join(" ")
}
