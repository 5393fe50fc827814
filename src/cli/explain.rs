//! `tollgate explain`: what a request would be answered and why, from a running service or from rule files alone, in words
//! or as JSON.

mod print;

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, runtime, time};

use super::{
    client::{ServiceArgs, refused},
    offline::{self, DecisionArgs},
};
use crate::{
    clock,
    front::api::{self, CheckRequest, ExplainResponse},
    limit::{
        self,
        written::{self, OwnedEntry},
    },
    rules::{self, DotFiles, Rules, Sources},
    serve,
    sources::defaults,
    visible,
};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate explain --domain api --entry user=alice --entry endpoint=/login\n  \
    TOLLGATE_TOKEN=… tollgate explain --api --addr limits:8081 --domain api --entry user=alice --json\n  \
    tollgate explain --rules config/ --domain api --entry user=alice\n\n\
    Without --api or --rules the admin listener of a service on this machine is asked.\n\
    Exit code: 0 explained, 1 not.")]
pub(super) struct ExplainArgs {
    /// Domain of the rules [default: the only one, where one is loaded]
    #[arg(long, default_value = "")]
    domain: String,
    /// An entry of the descriptor; several in their order
    #[arg(long = "entry", value_name = "K=V", value_parser = written::parse_entry, required_unless_present = "descriptors")]
    entries: Vec<OwnedEntry>,
    /// A whole descriptor; may be given several times, for one request
    #[arg(long = "descriptor", value_name = "K=V,K=V")]
    descriptors: Vec<String>,
    /// What the request costs
    #[arg(long, value_name = "N", default_value_t = 1)]
    hits: u32,
    /// Admin listener of the service
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6070")]
    admin: SocketAddr,
    /// Ask the gRPC listener instead, with a token whose scopes have `explain`
    #[arg(long)]
    api: bool,
    #[command(flatten)]
    service: ServiceArgs,
    /// Explain these rule files without a service, with empty counters
    #[arg(long, value_name = "PATH", conflicts_with = "api")]
    rules: Vec<PathBuf>,
    /// With --rules: merge files that name the same domain instead of refusing them
    #[arg(long, requires = "rules")]
    merge_domain_config: bool,
    #[command(flatten)]
    decisions: DecisionArgs,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let descriptors = args.parsed_descriptors()?;
    let answer = runtime.block_on(async {
        if !args.rules.is_empty() {
            args.offline(&descriptors).await
        } else if args.api {
            args.by_api(&descriptors).await
        } else {
            args.by_admin(&descriptors).await
        }
    })?;
    let text = match args.json {
        true => visible::json(&serde_json::to_string_pretty(&answer)?).into_owned() + "\n",
        false => print::in_words(&answer, !args.rules.is_empty()),
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads may have read enough (`| head`).
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

impl ExplainArgs {
    fn parsed_descriptors(&self) -> anyhow::Result<Vec<Vec<OwnedEntry>>> {
        let own = Some(self.entries.clone()).filter(|entries| !entries.is_empty()).into_iter().map(Ok);
        let others = self.descriptors.iter().map(|text| written::parse_entries(text).map_err(anyhow::Error::msg));
        own.chain(others).collect()
    }

    fn patience(&self) -> Duration {
        self.service.patience()
    }

    async fn by_admin(&self, descriptors: &[Vec<OwnedEntry>]) -> anyhow::Result<ExplainResponse> {
        let mut query = format!("hits={}&domain={}", self.hits, escaped(&self.domain));
        for entries in descriptors {
            let text = written::write_entries(entries.iter().map(OwnedEntry::entry));
            query += &format!("&descriptor={}", escaped(&text));
        }
        let asking = get(self.admin, format!("/explain?{query}"));
        let answer = time::timeout(self.patience(), asking).await;
        let (status, body) = answer
            .with_context(|| format!("{}: no answer within {:?}", self.admin, self.patience()))?
            .with_context(|| format!("no answer from the admin listener at {}", self.admin))?;
        if status != http::StatusCode::OK {
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            bail!("{}", problem["detail"].as_str().unwrap_or("it has no /explain"));
        }
        Ok(serde_json::from_slice(&body)?)
    }

    async fn by_api(&self, descriptors: &[Vec<OwnedEntry>]) -> anyhow::Result<ExplainResponse> {
        let service = self.service.connect().await?;
        let entry = |entry: &OwnedEntry| api::Entry { key: entry.key.clone(), value: entry.value.clone() };
        let descriptor =
            |entries: &Vec<OwnedEntry>| api::Descriptor { entries: entries.iter().map(entry).collect(), hits: None };
        let request = CheckRequest {
            domain: self.domain.clone(),
            descriptors: descriptors.iter().map(descriptor).collect(),
            hits: Some(self.hits),
            ..CheckRequest::default()
        };
        let answer = service.client().explain(service.call(request)).await;
        Ok(answer.map_err(|status| refused(&status, service.has_token()))?.into_inner())
    }

    async fn offline(&self, descriptors: &[Vec<OwnedEntry>]) -> anyhow::Result<ExplainResponse> {
        let settings = self.decisions.settings(self.merge_domain_config)?;
        let sources = Sources::read(&self.rules, DotFiles::Read)?;
        sources.require_rules()?;
        let load = rules::load(&sources, &defaults(&settings), None);
        if load.problems.has_errors() {
            bail!("the rules have errors:\n{}", load.problems.render());
        }
        let domain = self.domain_of(&load.rules)?;
        let now = clock::now();
        let limiter = offline::limiter(load.rules, serve::modes(&settings.decisions, true), now);
        let descriptors = descriptors.iter().map(|entries| limit::Descriptor {
            entries: entries.iter().map(OwnedEntry::entry).collect(),
            hits: (self.hits == 0).then_some(0),
            ..limit::Descriptor::default()
        });
        let hits = i64::from(self.hits);
        let request =
            limit::Request { domain: &domain, descriptors: descriptors.collect(), hits, ..limit::Request::default() };
        Ok(api::explain_request(&limiter, &request, now, self.patience()).await?)
    }

    fn domain_of(&self, rules: &Rules) -> anyhow::Result<String> {
        match (&*self.domain, rules.domains()) {
            ("", [only]) => Ok(only.name().to_owned()),
            ("", _) => bail!("name a --domain: the rules have more than one, or none"),
            (named, _) => Ok(named.to_owned()),
        }
    }
}

/// What stands in a query without a meaning of its own.
fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/=,:@".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

async fn get(at: SocketAddr, path: String) -> anyhow::Result<(http::StatusCode, Bytes)> {
    let stream = TcpStream::connect(at).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::get(path).header("host", at.to_string()).body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    // The connection works for as long as its answer is waited for.
    tokio::select! {
        answer = answer => answer,
        ended = connection => Err(ended.err().map_or_else(|| anyhow::anyhow!("it hung up"), Into::into)),
    }
}
