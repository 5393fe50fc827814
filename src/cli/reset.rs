//! `tollgate reset`: the counters of a descriptor begin afresh, on all replicas.

use clap::Args;
use tokio::runtime;

use super::{
    ask::{self, Answer, AskArgs, Call},
    entries::{self, GivenDescriptor},
    exit::Exit,
    show::OutputArgs,
};
use crate::{
    front::api::{Entry, ResetCounterRequest, ResetCounterResponse},
    limit::written::OwnedEntry,
    visible,
};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate reset --domain api --entry user=alice --reason 'ticket 42'\n  \
    tollgate reset --domain api --descriptor user=alice,endpoint=/login --reason 'ticket 42'\n  \
    tollgate reset --domain api --entry user=alice --limit-id 'api/user#hourly' --dry-run\n\n\
    Needs --addr and a token whose scopes have `counters.reset`.\n\
    Exit code: 0 done, 1 not, 2 a command line that can't be meant so.")]
pub(super) struct ResetArgs {
    /// Domain of the rules [default: the service's, or the only one]
    #[arg(long, default_value = "", hide_default_value = true)]
    domain: String,
    /// An entry of the descriptor; several in their order
    #[arg(long = "entry", value_name = "K=V", required_unless_present = "descriptor", value_parser = entries::one)]
    entries: Vec<OwnedEntry>,
    /// The whole descriptor, as `tollgate top` prints it
    #[arg(long, value_name = "K=V,K=V", conflicts_with = "entries", value_parser = entries::descriptor)]
    descriptor: Option<GivenDescriptor>,
    /// Only this limit, such as api/user#hourly [default: all that count the descriptor]
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    limit_id: String,
    /// For the audit
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Tell which counters it would be, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &ResetArgs) -> anyhow::Result<Exit> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let given = args.descriptor.as_ref().map_or(&args.entries, |GivenDescriptor(entries)| entries);
    let entries = given.iter().map(|OwnedEntry { key, value }| Entry { key: key.clone(), value: value.clone() });
    let request = ResetCounterRequest {
        domain: args.domain.clone(),
        entries: entries.collect(),
        limit_id: args.limit_id.clone(),
        dry_run: args.dry_run,
        reason: args.reason.clone(),
        ..ResetCounterRequest::default()
    };
    runtime.block_on(async {
        ask::each(&args.ask.to_change()?, &args.output, async |service| {
            let answer: ResetCounterResponse = service.ask(Call::post("/v1/counters:reset", &request)).await?;
            let done = if args.dry_run { "would reset" } else { "reset" };
            let line = |it: &crate::front::api::CounterReset| format!("{done} {}: counter {}", it.limit_id, it.key);
            let text = answer.counters.iter().map(|it| visible::text(&line(it)).into_owned() + "\n").collect();
            Ok(Answer { text, json: serde_json::to_value(&answer)?, exit: Exit::Done })
        })
        .await
    })
}
