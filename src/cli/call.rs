//! `tollgate call`: one request to any server of the rate limit service, and its answer in words or as JSON.

use std::{process::ExitCode, time::Duration};

use crate::proto::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse,
        rate_limit_response::{Code, DescriptorStatus, rate_limit::Unit},
        rate_limit_service_client::RateLimitServiceClient,
    },
};
use anyhow::{Context, bail};
use clap::Args;
use tokio::runtime;
use tonic::transport::Endpoint;

use crate::{
    front::envoy::{OWN_TOOLS, json_response},
    limit::written,
    visible,
};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate call --domain api --descriptor user=alice\n  \
    tollgate call --domain api --descriptor user=alice,endpoint=/checkout --hits 3 --json\n\n\
    Entries are split at the first '='; write '\\,' for a comma in a value.\n\
    Exit code: 0 OK, 3 OVER_LIMIT, 1 no answer.")]
pub(super) struct CallArgs {
    /// Address of the service
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8081")]
    addr: String,
    /// Domain of the rules
    #[arg(long)]
    domain: String,
    /// Entries of a descriptor; may be given several times
    #[arg(long = "descriptor", value_name = "K=V,K=V", required = true, value_parser = descriptor)]
    descriptors: Vec<RateLimitDescriptor>,
    /// What the request costs
    #[arg(long, value_name = "N", default_value_t = 1)]
    hits: u32,
    /// How long to wait for the answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    timeout_ms: u64,
    /// Print the answer as the protocol's JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: CallArgs) -> anyhow::Result<ExitCode> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let descriptors = args.descriptors.clone();
    let response = runtime.block_on(send_request(&args))?;
    if args.json {
        let json = String::from_utf8(json_response(&response)).context("JSON is UTF-8")?;
        println!("{}", visible::json(&json));
    } else {
        print(&response, &descriptors);
    }
    Ok(if response.overall_code() == Code::OverLimit { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

async fn send_request(args: &CallArgs) -> anyhow::Result<RateLimitResponse> {
    let timeout = Duration::from_millis(args.timeout_ms);
    let endpoint = Endpoint::from_shared(format!("http://{}", args.addr))
        .with_context(|| format!("'{}' is no address such as 127.0.0.1:8081", args.addr))?
        .user_agent(format!("{OWN_TOOLS}{}", env!("CARGO_PKG_VERSION")))?
        .connect_timeout(timeout)
        .timeout(timeout);
    let channel = endpoint.connect().await.with_context(|| format!("no connection to {}", args.addr))?;
    let request =
        RateLimitRequest { domain: args.domain.clone(), descriptors: args.descriptors.clone(), hits_addend: args.hits };
    match RateLimitServiceClient::new(channel).should_rate_limit(request).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => bail!("{:?}: {}", status.code(), status.message()),
    }
}

fn print(response: &RateLimitResponse, descriptors: &[RateLimitDescriptor]) {
    println!("{}", response.overall_code().as_str_name());
    for (descriptor, status) in descriptors.iter().zip(&response.statuses) {
        let entries: Vec<String> = descriptor.entries.iter().map(|e| format!("{}={}", e.key, e.value)).collect();
        println!("  {}: {}", visible::text(&entries.join(",")), visible::text(&in_words(status)));
    }
}

fn in_words(status: &DescriptorStatus) -> String {
    let code = status.code().as_str_name();
    let Some(limit) = &status.current_limit else {
        return format!("{code}, {}", if status.limit_remaining == u32::MAX { "unlimited" } else { "no limit" });
    };
    let name = if limit.name.is_empty() { String::new() } else { format!(" ({})", limit.name) };
    let window = match limit.unit() {
        Unit::Unknown => String::new(),
        unit => format!(" a {}", unit.as_str_name().to_ascii_lowercase()),
    };
    let reset = status.duration_until_reset.map_or(String::new(), |reset| format!(", reset in {} s", reset.seconds));
    format!("{code}, {} of {}{window}{name} remaining{reset}", status.limit_remaining, limit.requests_per_unit)
}

/// `k=v,k=v`.
pub(super) fn descriptor(text: &str) -> Result<RateLimitDescriptor, String> {
    let entries =
        written::parse_entries(text)?.into_iter().map(|written| Entry { key: written.key, value: written.value });
    Ok(RateLimitDescriptor { entries: entries.collect(), ..RateLimitDescriptor::default() })
}
