//! `tollgate top`: who is refused most, hit most, or would be refused most, as a running service has counted, in a table or
//! as JSON.

use std::{fmt::Write as _, time::Duration};

use clap::Args;
use tokio::runtime;

use super::{
    ask::{self, Answer, AskArgs, Call, Service, escaped},
    entries,
    exit::Exit,
    show::{self, OutputArgs},
    status,
};
use crate::{
    clock,
    front::api::{TopEntry, TopResponse},
    limiter::top::{TopMeasure, TopSpan},
    visible,
};

/// How often `--watch` asks again.
const WATCH_PERIOD: Duration = Duration::from_secs(2);

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate top                                      who was refused most in the last ten minutes\n  \
    tollgate top --by hits --since 1m --watch         who asks most, again and again\n  \
    tollgate top --by shadow --limit 'api/user#new'   whom a limit would refuse that isn't enforced yet\n  \
    TOLLGATE_TOKEN=… tollgate top --addr limits:8080 --domain api --json\n\n\
    Without --addr the admin listener of a service on this machine is asked; with it a token whose scopes have\n\
    `insight.read`. Exit code: 0 listed, 1 not, 2 a command line that can't be meant so.")]
pub(super) struct TopArgs {
    /// Only counters of the limit with this id, such as 'api/user#hourly'
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    limit: String,
    /// Only counters of this domain
    #[arg(long, default_value = "", hide_default_value = true)]
    domain: String,
    /// Only counters whose descriptor has this entry
    #[arg(long, value_name = "K=V", value_parser = entries::one_as_given)]
    entry: Option<String>,
    /// What the order is by
    #[arg(long, value_name = "denied|hits|shadow", default_value = "denied", value_parser = TopMeasure::ALL.map(TopMeasure::name))]
    by: String,
    /// How far back
    #[arg(long, value_name = "1m|10m|1h", default_value = "10m", value_parser = TopSpan::ALL.map(TopSpan::name))]
    since: String,
    /// Most entries
    #[arg(short, long = "entries", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    n: u32,
    /// Ask again every 2 s, until it is stopped
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &TopArgs) -> anyhow::Result<Exit> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let path = args.path();
    runtime.block_on(async {
        let ask = async |service: &Service| {
            let answer: TopResponse = service.ask(Call::get(path.clone())).await?;
            Ok(Answer { text: in_words(&answer), json: serde_json::to_value(&answer)?, exit: Exit::Done })
        };
        let services = args.ask.services()?;
        match args.watch {
            true => ask::each_again(&services, &args.output, WATCH_PERIOD, ask).await,
            false => ask::each(&services, &args.output, ask).await,
        }
    })
}

impl TopArgs {
    fn path(&self) -> String {
        let TopArgs { limit, domain, entry, by, since, n, .. } = self;
        let (count, entry) = (n.to_string(), entry.clone().unwrap_or_default());
        let parameters =
            [("domain", domain), ("limit", limit), ("entry", &entry), ("by", by), ("since", since), ("n", &count)];
        let query: Vec<String> = parameters
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={}", escaped(value)))
            .collect();
        format!("/v1/top?{}", query.join("&"))
    }
}

fn in_words(answer: &TopResponse) -> String {
    let TopResponse { fleet, replicas, by, since, from, entries, others_at_most, partial } = answer;
    let mut out = String::new();
    let _ = writeln!(out, "{}", status::heading(fleet, *replicas as usize));
    if !partial.is_empty() {
        let _ = writeln!(out, "{}", visible::text(partial));
    }
    let _ = writeln!(
        out,
        "most {} over the last {}, since {}",
        visible::text(by),
        visible::text(since),
        visible::text(&show::moment(from, clock::now()))
    );
    if entries.is_empty() {
        let _ = writeln!(out, "nobody");
        return out;
    }
    let rows: Vec<[String; 6]> = entries.iter().map(row).collect();
    let head = ["DENIED", "HITS", "SHADOW", "ERROR", "LIMIT", "DESCRIPTOR"];
    out += &show::table(head, &rows, 4);
    if *others_at_most > 0 {
        let _ = writeln!(out, "no other has more than {others_at_most}");
    }
    out
}

fn row(entry: &TopEntry) -> [String; 6] {
    let TopEntry { limit, descriptor, denied, hits, shadow, error, .. } = entry;
    let [limit, descriptor] = [limit, descriptor].map(|text| visible::text(text).into_owned());
    [denied.to_string(), hits.to_string(), shadow.to_string(), error.to_string(), limit, descriptor]
}
