//! `tollgate overrides`: run-time overrides of a running service, one by one or by the file.

mod calls;
mod import;
mod table;
mod touched;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use anyhow::bail;
use clap::{Args, Subcommand};
use tokio::runtime;

use self::calls::Condition;
use super::{
    ask::{self, Answer, AskArgs, Call},
    entries,
    exit::{BadUsage, Exit},
    show::{self, OutputArgs, Span},
};
use crate::{
    clock,
    front::api::{Entry, Limit, Override, OverrideSpec, made_override_id},
    limit::written::OwnedEntry,
    limiter::explain::words,
    rules, visible,
};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate overrides set --domain api --match user=alice --rule user --limit 300/m --for 4h --reason 'ticket 42'\n  \
    tollgate overrides list --domain api --key user --value-prefix al\n  \
    tollgate overrides export --domain api > overrides.csv\n  \
    tollgate overrides import --domain api --dry-run overrides.csv\n\n\
    Changes need --addr and a token, in --token-file or in the variable TOLLGATE_TOKEN; without --addr the admin listener\n\
    of a service on this machine is looked at. Exit code: 0 done, 1 not, 2 a command line that can't be meant so.")]
pub(super) struct OverridesArgs {
    #[command(subcommand)]
    action: OverridesCommand,
}

#[derive(Args)]
struct CommonArgs {
    /// Domain of the rules [default: the service's, or the only one]
    #[arg(long, default_value = "", hide_default_value = true)]
    domain: String,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand)]
enum OverridesCommand {
    /// Show one override
    #[command(after_help = "Example:\n  \
        tollgate overrides get --domain api user:alice")]
    Get {
        id: String,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Create or replace one override
    Set(Box<SetArgs>),
    /// List overrides
    #[command(after_help = "Examples:\n  \
        tollgate overrides list --domain api\n  \
        tollgate overrides list --domain api --key user --value-prefix al --json")]
    List {
        /// Only those that match on this key,
        #[arg(long, default_value = "", hide_default_value = true)]
        key: String,
        /// with a value that begins so
        #[arg(long, default_value = "", hide_default_value = true, requires = "key")]
        value_prefix: String,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Delete one override
    #[command(after_help = "Example:\n  \
        tollgate overrides delete --domain api user:alice --reason 'ticket 42 is closed'")]
    Delete {
        id: String,
        /// For the audit
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        /// Check everything and change nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Create or replace overrides from a file, all of which is checked before anything is changed
    #[command(after_help = "Examples:\n  \
        tollgate overrides import --domain api --dry-run overrides.csv\n  \
        tollgate overrides import --domain api overrides.csv")]
    Import {
        /// .csv with the columns of override files (and `id`, `rule`), or .ndjson
        file: PathBuf,
        /// Check everything and change nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Print all overrides as a file that import takes
    #[command(after_help = "Examples:\n  \
        tollgate overrides export --domain api > overrides.csv\n  \
        tollgate overrides export --domain api --ndjson > overrides.ndjson")]
    Export {
        /// As NDJSON instead of CSV, which has room for one limit a row
        #[arg(long)]
        ndjson: bool,
        /// Put ' before cells of CSV that a spreadsheet would take for formulas; import takes it off again
        #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
        safe: bool,
        #[command(flatten)]
        common: CommonArgs,
    },
}

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate overrides set --domain api --match user=alice --rule user --limit 300/m --for 4h --reason 'ticket 42'\n  \
    tollgate overrides set --domain api --match user=alice --rule user/endpoint=/login --tier gold\n  \
    tollgate overrides set --domain api probe --match user=health-probe --limit unlimited --create-only")]
struct SetArgs {
    /// 1 to 128 letters, digits and -._~:@, not . or .. [default: made of what it matches]
    id: Option<String>,
    /// A key and its value; several for more
    #[arg(long = "match", value_name = "K=V", required = true, value_parser = entries::one)]
    matches: Vec<OwnedEntry>,
    /// Such as 300/m, 30/5m or unlimited
    #[arg(long, required_unless_present = "tier", conflicts_with = "tier")]
    limit: Option<String>,
    /// A tier of the domain
    #[arg(long)]
    tier: Option<String>,
    /// The clients that it denies of those it is for: true, false, or a share such as 10%
    #[arg(long, value_name = "SHARE")]
    enforce: Option<String>,
    /// Only this rule, such as user/endpoint=/login
    #[arg(long, default_value = "", hide_default_value = true)]
    rule: String,
    /// How long it lasts, such as 4h
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "expires", value_parser = show::span)]
    lasts: Option<Span>,
    /// When it ends, such as 2027-01-01
    #[arg(long, default_value = "", hide_default_value = true)]
    expires: String,
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[arg(long, default_value = "", hide_default_value = true)]
    owner: String,
    /// Only if the override has this etag; '*': only if there is one
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true, conflicts_with = "create_only")]
    if_match: String,
    /// Only if there is none yet
    #[arg(long)]
    create_only: bool,
    /// Check everything and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Don't ask where more than one rule is touched, as is done on a terminal
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(args: OverridesArgs) -> anyhow::Result<Exit> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(act(args.action))
}

async fn act(action: OverridesCommand) -> anyhow::Result<Exit> {
    match action {
        OverridesCommand::Get { id, common } => {
            let CommonArgs { domain, ask, output } = common;
            ask::each(&ask.services()?, &output, async |service| {
                let found: Override = service.ask(Call::get(calls::path(&domain, &id))).await?;
                shown(&[found])
            })
            .await
        }
        OverridesCommand::Set(args) => set(*args).await,
        OverridesCommand::List { key, value_prefix, common } => {
            let CommonArgs { domain, ask, output } = common;
            ask::each(&ask.services()?, &output, async |service| {
                shown(&calls::all(service, &domain, &key, &value_prefix).await?)
            })
            .await
        }
        OverridesCommand::Delete { id, reason, dry_run, common } => {
            let CommonArgs { domain, ask, output } = common;
            ask::each(&ask.to_change()?, &output, async |service| {
                let deleted = calls::delete(service, &domain, &id, &reason, dry_run).await?;
                let done = if dry_run { "would delete" } else { "deleted" };
                let answer = shown(&[deleted])?;
                Ok(Answer { text: format!("{done} {}", answer.text), ..answer })
            })
            .await
        }
        OverridesCommand::Import { file, dry_run, common } => {
            let CommonArgs { domain, ask, output } = common;
            ask::each(&ask.to_change()?, &output, async |service| {
                import::import(service, &domain, &file, dry_run, output.json).await
            })
            .await
        }
        OverridesCommand::Export { ndjson, safe, common } => {
            let services = common.ask.services()?;
            let [service] = services.as_slice() else {
                return Err(BadUsage("--addr: a file has the overrides of one service".to_owned()).into());
            };
            let overrides = calls::all(service, &common.domain, "", "").await?;
            let file = if ndjson { table::ndjson(&overrides)? } else { table::csv(&overrides, safe)? };
            // A file has what is stored; a terminal shows it.
            show::print(&if io::stdout().is_terminal() { visible::lines(&file) } else { file.into() })?;
            Ok(Exit::Done)
        }
    }
}

async fn set(args: SetArgs) -> anyhow::Result<Exit> {
    let limit = limit_of(&args)?;
    let matches = args.matches.into_iter().map(|OwnedEntry { key, value }| Entry { key, value });
    let spec = OverrideSpec {
        r#match: matches.collect(),
        rule: args.rule,
        limit: vec![limit],
        expires: args.expires,
        r#for: args.lasts.map(|lasts| lasts.written).unwrap_or_default(),
        reason: args.reason,
        owner: args.owner,
    };
    let CommonArgs { domain, ask, output } = args.common;
    let condition = Condition { if_match: &args.if_match, create_only: args.create_only };
    ask::each(&ask.to_change()?, &output, async |service| {
        let id = match &args.id {
            Some(id) => id.clone(),
            None => made_override_id(&calls::domain_of(service, &domain, &spec).await, &spec),
        };
        let set = async |dry_run| calls::set(service, (&domain, &id), &spec, condition, dry_run).await;
        // Which rules it is for is told before it is done.
        let planned = set(true).await?;
        if !output.json {
            show::print(&touched::lines(&planned))?;
        }
        if args.dry_run {
            return shown(&[planned]);
        }
        if !args.yes && !touched::is_meant(service.name(), &planned)? {
            bail!("nothing was changed");
        }
        shown(&[set(false).await?])
    })
    .await
}

/// The limit that the flags say: in one word where they say no more.
fn limit_of(args: &SetArgs) -> anyhow::Result<Limit> {
    let (short, tier) = (args.limit.clone().unwrap_or_default(), args.tier.clone().unwrap_or_default());
    let Some(enforce) = &args.enforce else { return Ok(Limit { short, tier, ..Limit::default() }) };
    let mut limit = Limit { tier, ..Limit::default() };
    if !short.is_empty() {
        let wrong =
            |why| BadUsage(format!("'{}' is no limit that --enforce could go with: {why}", visible::text(&short)));
        let (requests, window) = rules::short_rate(&short).map_err(wrong)?;
        (limit.requests, limit.window) = (Some(requests), words::wait(window));
    }
    table::put_enforce(&mut limit, enforce).map_err(BadUsage)?;
    Ok(limit)
}

/// An override in each line, or a list of them.
fn shown(overrides: &[Override]) -> anyhow::Result<Answer> {
    let now = clock::now();
    let text = overrides.iter().map(|it| table::line(it, now)).collect();
    Ok(Answer { text, json: serde_json::to_value(overrides)?, exit: Exit::Done })
}
