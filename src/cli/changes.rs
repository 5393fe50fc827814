//! `tollgate changes`: what changed of late, whoever changed it: rules, overrides, switches, counters.

use clap::Args;
use tokio::runtime;

use super::{
    ask::{self, Answer, AskArgs, Call, Service, escaped},
    exit::Exit,
    show::{self, OutputArgs, Span},
};
use crate::{
    clock,
    front::api::{Change, ListChangesResponse},
    rules::domain_prefix,
    visible,
};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate changes --since 1h\n  \
    tollgate changes --domain api -n 20 --json\n\n\
    Reloads are those of the replica that is asked; overrides, switches and resets are the whole fleet's. Without --addr the\n\
    admin listener of a service on this machine is asked; with it a token whose scopes have `audit.read`.\n\
    Exit code: 0 told, 1 no answer, 2 a command line that can't be meant so.")]
pub(super) struct ChangesArgs {
    /// Only what is not older
    #[arg(long, value_name = "DURATION", value_parser = show::span)]
    since: Option<Span>,
    /// Only this domain
    #[arg(long, default_value = "", hide_default_value = true)]
    domain: String,
    /// At most so many, the newest
    #[arg(short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    count: u32,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &ChangesArgs) -> anyhow::Result<Exit> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let mut path = format!("/v1/changes?page_size={}", args.count);
    if let Some(since) = &args.since {
        path += &format!("&since={}", escaped(&since.written));
    }
    if !args.domain.is_empty() {
        path += &format!("&domain={}", escaped(&args.domain));
    }
    runtime.block_on(async {
        ask::each(&args.ask.services()?, &args.output, async |service: &Service| {
            let answer: ListChangesResponse = service.ask(Call::get(path.clone())).await?;
            let mut text = String::new();
            if !answer.partial.is_empty() {
                text += &format!("{}\n", visible::text(&answer.partial));
            }
            match answer.changes.is_empty() {
                true => text += "nothing changed\n",
                false => text.extend(answer.changes.iter().map(in_words)),
            }
            Ok(Answer { text, json: serde_json::to_value(&answer)?, exit: Exit::Done })
        })
        .await
    })
}

/// `2026-11-28T20:57:56Z (3 min ago) limit.switch api/user: shadow until …, by ops: ticket 42`.
fn in_words(change: &Change) -> String {
    let Change { at, action, domain, target, by, reason, before, after } = change;
    let target = match &**target {
        "" => domain.clone(),
        "*" => format!("all of {domain}"),
        // The id of a limit has its domain.
        target if target.starts_with(&domain_prefix(domain)) => target.to_owned(),
        target => format!("{domain} {target}"),
    };
    let what = match (&**before, &**after) {
        ("", "") => String::new(),
        ("", after) => format!(": {after}"),
        (before, "") => format!(": was {before}"),
        (before, after) => format!(": {before} → {after}"),
    };
    let by = if by.is_empty() { String::new() } else { format!(", by {by}") };
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let gap = if target.is_empty() { "" } else { " " };
    let text = format!("{} {action}{gap}{target}{what}{by}{reason}", show::moment(at, clock::now()));
    visible::text(&text).into_owned() + "\n"
}
