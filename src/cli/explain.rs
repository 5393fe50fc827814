//! `tollgate explain`: what a request would be answered and why, from a running service or from rule files alone, in words
//! or as JSON.

mod print;

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use clap::Args;
use tokio::runtime;

use super::{
    ask::{self, Answer, AskArgs, Call, Service, escaped},
    entries::{self, GivenDescriptor},
    exit::Exit,
    offline::{self, DecisionArgs},
    show::{self, OutputArgs},
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
};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate explain --domain api --entry user=alice --entry endpoint=/login\n  \
    TOLLGATE_TOKEN=… tollgate explain --addr limits:8080 --domain api --entry user=alice --json\n  \
    tollgate explain --rules config/ --domain api --entry user=alice\n\n\
    Without --addr or --rules the admin listener of a service on this machine is asked.\n\
    Exit code: 0 explained, 1 not; with --exit-code 3 where the request would be refused.")]
pub(super) struct ExplainArgs {
    /// Domain of the rules [default: the only one, where one is loaded]
    #[arg(long, default_value = "", hide_default_value = true)]
    domain: String,
    /// An entry of the descriptor; several in their order
    #[arg(long = "entry", value_name = "K=V", value_parser = entries::one, required_unless_present = "descriptors")]
    entries: Vec<OwnedEntry>,
    /// A whole descriptor; may be given several times, for one request
    #[arg(long = "descriptor", value_name = "K=V,K=V", value_parser = entries::descriptor)]
    descriptors: Vec<GivenDescriptor>,
    /// What the request costs
    #[arg(long, value_name = "N", default_value_t = 1)]
    hits: u32,
    #[command(flatten)]
    ask: AskArgs,
    /// Explain these rule files without a service, with empty counters
    #[arg(long, value_name = "PATH", conflicts_with = "api")]
    rules: Vec<PathBuf>,
    /// With --rules: merge files that name the same domain instead of refusing them
    #[arg(long, requires = "rules")]
    merge_domain_config: bool,
    #[command(flatten)]
    decisions: DecisionArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Ask again every two seconds, until Ctrl-C
    #[arg(long, conflicts_with = "rules")]
    watch: bool,
    /// End with 3 where the request would be refused
    #[arg(long)]
    exit_code: bool,
}

/// How often an explanation is looked at again.
const WATCH_EVERY: Duration = Duration::from_secs(2);

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let descriptors = args.all_descriptors();
    runtime.block_on(async {
        if !args.rules.is_empty() {
            let answer = args.answer(&args.offline(&descriptors).await?, true)?;
            show::print(&if args.output.json { show::json(&answer.json)? } else { answer.text })?;
            return Ok(answer.exit);
        }
        let services = args.ask.services()?;
        let ask = async |service: &Service| args.answer(&args.of_service(service, &descriptors).await?, false);
        match args.watch {
            true => ask::each_again(&services, &args.output, WATCH_EVERY, ask).await,
            false => ask::each(&services, &args.output, ask).await,
        }
    })
}

impl ExplainArgs {
    /// `--entry`s are one descriptor, before those that are given whole.
    fn all_descriptors(&self) -> Vec<Vec<OwnedEntry>> {
        let own = Some(self.entries.clone()).filter(|entries| !entries.is_empty());
        own.into_iter().chain(self.descriptors.iter().map(|given| given.0.clone())).collect()
    }

    /// `alone`: no service was asked.
    fn answer(&self, explained: &ExplainResponse, alone: bool) -> anyhow::Result<Answer> {
        let is_over = explained.answer.as_ref().is_some_and(|check| !check.allowed);
        Ok(Answer {
            text: print::in_words(explained, alone, (self.output.paint(), clock::now())),
            json: serde_json::to_value(explained)?,
            exit: if is_over && self.exit_code { Exit::Attention } else { Exit::Done },
        })
    }

    async fn of_service(&self, service: &Service, descriptors: &[Vec<OwnedEntry>]) -> anyhow::Result<ExplainResponse> {
        if service.is_admin() {
            let mut query = format!("hits={}&domain={}", self.hits, escaped(&self.domain));
            for entries in descriptors {
                let text = written::write_entries(entries.iter().map(OwnedEntry::entry));
                query += &format!("&descriptor={}", escaped(&text));
            }
            return Ok(service.ask(Call::get(format!("/explain?{query}"))).await?);
        }
        let entry = |entry: &OwnedEntry| api::Entry { key: entry.key.clone(), value: entry.value.clone() };
        let descriptor =
            |entries: &Vec<OwnedEntry>| api::Descriptor { entries: entries.iter().map(entry).collect(), hits: None };
        let request = CheckRequest {
            domain: self.domain.clone(),
            descriptors: descriptors.iter().map(descriptor).collect(),
            hits: Some(self.hits),
            ..CheckRequest::default()
        };
        Ok(service.ask(Call::post("/v1/explain", &request)).await?)
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
        Ok(api::explain_request(&limiter, &request, now, self.ask.patience()).await?)
    }

    fn domain_of(&self, rules: &Rules) -> anyhow::Result<String> {
        match (&*self.domain, rules.domains()) {
            ("", [only]) => Ok(only.name().to_owned()),
            ("", _) => bail!("name a --domain: the rules have more than one, or none"),
            (named, _) => Ok(named.to_owned()),
        }
    }
}
