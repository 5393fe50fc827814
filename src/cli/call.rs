//! `tollgate call`: one request to any server of the rate limit service, and its answer in words or as JSON.

use std::time::Duration;

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
use http::Method;
use tokio::runtime;
use tonic::{Request, Status};

use super::{
    ask::{self, Answer, ApiArgs, Call, Service},
    exit::Exit,
    show::{OutputArgs, Paint, Tone},
};
use crate::{
    front::envoy::{json_response, read_json_response, write_json_request},
    limit::{self, written},
    visible,
};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate call --domain api --descriptor user=alice\n  \
    tollgate call --domain api --descriptor user=alice,endpoint=/checkout --hits 3 --json\n\n\
    Entries are split at the first '='; write '\\,' for a comma in a value.\n\
    --addr names the gRPC listener (default 127.0.0.1:8081) or the HTTP listener of any rate limit service.\n\
    Exit code: 0 OK, 3 OVER_LIMIT, 1 no answer, 2 a command line that can't be meant so.")]
pub(super) struct CallArgs {
    /// Domain of the rules
    #[arg(long)]
    domain: String,
    /// Entries of a descriptor; may be given several times
    #[arg(long = "descriptor", value_name = "K=V,K=V", required = true, value_parser = descriptor)]
    descriptors: Vec<RateLimitDescriptor>,
    /// What the request costs
    #[arg(long, value_name = "N", default_value_t = 1)]
    hits: u32,
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// End with 3 where the answer is OVER_LIMIT, as it does anyway
    #[arg(long, hide = true)]
    exit_code: bool,
}

/// Where a server of the rate limit service is, if it isn't said.
const SERVER_HERE: &str = "127.0.0.1:8081";

/// How long an answer may take, if it isn't said.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn run(args: &CallArgs) -> anyhow::Result<Exit> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let patience = args.api.patience_or(PATIENCE);
    let services = args.api.services(SERVER_HERE, patience)?;
    let request =
        RateLimitRequest { domain: args.domain.clone(), descriptors: args.descriptors.clone(), hits_addend: args.hits };
    runtime.block_on(ask::each(&services, &args.output, async |service| {
        let response = send_request(service, &request, patience).await?;
        let is_over = response.overall_code() == Code::OverLimit;
        let json = String::from_utf8(json_response(&response)).context("JSON is UTF-8")?;
        Ok(Answer {
            text: text(&response, &args.descriptors, args.output.paint()),
            json: serde_json::from_str(&json)?,
            exit: if is_over { Exit::Attention } else { Exit::Done },
        })
    }))
}

/// Over gRPC, or where the listener doesn't speak it as the JSON of `/json`, which every such service has.
async fn send_request(
    service: &Service,
    request: &RateLimitRequest,
    patience: Duration,
) -> anyhow::Result<RateLimitResponse> {
    let by_grpc = async {
        let channel = service.channel(patience).await?;
        match RateLimitServiceClient::new(channel).should_rate_limit(Request::new(request.clone())).await {
            Ok(response) => anyhow::Ok(Ok(response.into_inner())),
            Err(status) => Ok(Err(status)),
        }
    };
    let why = match by_grpc.await {
        Ok(Ok(response)) => return Ok(response),
        Ok(Err(status)) if !is_of_connection(&status) => bail!("{:?}: {}", status.code(), status.message()),
        Ok(Err(status)) => anyhow::anyhow!("{:?}: {}", status.code(), status.message()),
        Err(why) => why,
    };
    let call = Call::new(Method::POST, "/json").raw(write_json_request(request));
    match service.ask_for_bytes(&call).await {
        Ok(body) => Ok(read_json_response(&body)?),
        Err(error) if error.status().is_some() => Err(error.into()),
        // Neither; what gRPC said is the one that is looked for first.
        Err(_) => Err(why),
    }
}

/// Whether no server of gRPC said this, but the connection.
fn is_of_connection(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn text(response: &RateLimitResponse, descriptors: &[RateLimitDescriptor], paint: Paint) -> String {
    let tone = if response.overall_code() == Code::OverLimit { Tone::Bad } else { Tone::Good };
    let mut out = paint.on(tone, response.overall_code().as_str_name()) + "\n";
    for (descriptor, status) in descriptors.iter().zip(&response.statuses) {
        let entries = descriptor.entries.iter().map(|e| limit::Entry { key: &e.key, value: &e.value });
        let entries = written::write_entries(entries);
        out += &format!("  {}: {}\n", visible::text(&entries), visible::text(&in_words(status)));
    }
    out
}

fn in_words(status: &DescriptorStatus) -> String {
    let code = status.code().as_str_name();
    let Some(limit) = &status.current_limit else {
        return format!("{code}, {}", if status.limit_remaining == u32::MAX { "unlimited" } else { "no limit" });
    };
    let name = if limit.name.is_empty() { String::new() } else { format!(" ({})", limit.name) };
    let window = match limit.unit() {
        Unit::Unknown => String::new(),
        Unit::Hour => " an hour".to_owned(),
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
