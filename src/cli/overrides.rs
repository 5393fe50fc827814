//! `tollgate overrides`: run-time overrides of a running service, one by one or by the file.

mod import;
mod table;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::bail;
use clap::{Args, Subcommand};
use tokio::runtime;

use super::client::{Service, ServiceArgs, refused};
use crate::{
    front::api::{
        DeleteOverrideRequest, Entry, GetOverrideRequest, Limit, ListOverridesRequest, Override, OverrideSpec,
        SetOverrideRequest, made_override_id,
    },
    limit::written::{self, OwnedEntry},
    visible,
};

/// Overrides in one answer.
const PAGE: u32 = 1_000;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate overrides set --domain api --match user=alice --limit 300/m --for 4h --reason 'ticket 42'\n  \
    tollgate overrides list --domain api --key user --value-prefix al\n  \
    tollgate overrides export --domain api > overrides.csv\n  \
    tollgate overrides import --domain api --dry-run overrides.csv\n\n\
    The token is read from --token-file or the variable TOLLGATE_TOKEN. Exit code: 0 done, 1 not.")]
pub(super) struct OverridesArgs {
    #[command(subcommand)]
    action: OverridesCommand,
}

#[derive(Args)]
struct CommonArgs {
    /// Domain of the rules [default: the service's, or the only one]
    #[arg(long, default_value = "")]
    domain: String,
    #[command(flatten)]
    service: ServiceArgs,
    /// Print answers as JSON
    #[arg(long)]
    json: bool,
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
        #[arg(long, default_value = "")]
        key: String,
        /// with a value that begins so
        #[arg(long, default_value = "", requires = "key")]
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
        #[arg(long, default_value = "")]
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
    tollgate overrides set --domain api --match user=alice --limit 300/m --for 4h --reason 'ticket 42'\n  \
    tollgate overrides set --domain api --match user=alice --rule user/endpoint=/login --tier gold\n  \
    tollgate overrides set --domain api probe --match user=health-probe --limit unlimited --create-only")]
struct SetArgs {
    /// 1 to 128 letters, digits and -._~:@, not . or .. [default: made of what it matches]
    id: Option<String>,
    /// A key and its value; several for more
    #[arg(long = "match", value_name = "K=V", required = true, value_parser = written::parse_entry)]
    matches: Vec<OwnedEntry>,
    /// Such as 300/m, 30/5m or unlimited
    #[arg(long, required_unless_present = "tier", conflicts_with = "tier")]
    limit: Option<String>,
    /// A tier of the domain
    #[arg(long)]
    tier: Option<String>,
    /// Only this rule, such as user/endpoint=/login
    #[arg(long, default_value = "")]
    rule: String,
    /// How long it lasts, such as 4h
    #[arg(long = "for", value_name = "DURATION", default_value = "", conflicts_with = "expires")]
    lasts: String,
    /// When it ends, such as 2027-01-01
    #[arg(long, default_value = "")]
    expires: String,
    #[arg(long, default_value = "")]
    reason: String,
    #[arg(long, default_value = "")]
    owner: String,
    /// Only if the override has this etag; '*': only if there is one
    #[arg(long, value_name = "ETAG", default_value = "", conflicts_with = "create_only")]
    if_match: String,
    /// Only if there is none yet
    #[arg(long)]
    create_only: bool,
    /// Check everything and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(args: OverridesArgs) -> anyhow::Result<ExitCode> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(act(args.action))
}

async fn act(action: OverridesCommand) -> anyhow::Result<ExitCode> {
    match action {
        OverridesCommand::Get { id, common } => {
            let service = common.service.connect().await?;
            let request = service.call(GetOverrideRequest { domain: common.domain, id });
            let found = service.client().get_override(request).await;
            show(&[found.map_err(|status| refused(&status, service.has_token()))?.into_inner()], common.json)?;
        }
        OverridesCommand::Set(args) => set(*args).await?,
        OverridesCommand::List { key, value_prefix, common } => {
            let service = common.service.connect().await?;
            show(&all(&service, &common.domain, &key, &value_prefix).await?, common.json)?;
        }
        OverridesCommand::Delete { id, reason, dry_run, common } => {
            let service = common.service.connect().await?;
            let request = DeleteOverrideRequest { domain: common.domain, id, dry_run, reason, ..Default::default() };
            let deleted = service.client().delete_override(service.call(request)).await;
            let deleted = deleted.map_err(|status| refused(&status, service.has_token()))?.into_inner().deleted;
            show(deleted.as_slice(), common.json)?;
        }
        OverridesCommand::Import { file, dry_run, common } => {
            let service = common.service.connect().await?;
            return import::import(&service, &common.domain, &file, dry_run, common.json).await;
        }
        OverridesCommand::Export { ndjson, safe, common } => {
            let service = common.service.connect().await?;
            let overrides = all(&service, &common.domain, "", "").await?;
            let file = if ndjson { table::ndjson(&overrides)? } else { table::csv(&overrides, safe)? };
            // A file has what is stored; a terminal shows it.
            print(&if io::stdout().is_terminal() { visible::lines(&file) } else { file.into() })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(args: SetArgs) -> anyhow::Result<()> {
    let limit =
        Limit { short: args.limit.unwrap_or_default(), tier: args.tier.unwrap_or_default(), ..Limit::default() };
    let matches = args.matches.into_iter().map(|OwnedEntry { key, value }| Entry { key, value });
    let spec = OverrideSpec {
        r#match: matches.collect(),
        rule: args.rule,
        limit: vec![limit],
        expires: args.expires,
        r#for: args.lasts,
        reason: args.reason,
        owner: args.owner,
    };
    let (dry_run, if_match, create_only) = (args.dry_run, args.if_match, args.create_only);
    let service = args.common.service.connect().await?;
    let id = match args.id {
        Some(id) => id,
        None => made_override_id(&domain_of(&service, &args.common.domain, &spec).await, &spec),
    };
    let request =
        SetOverrideRequest { domain: args.common.domain, id, spec: Some(spec), dry_run, if_match, create_only };
    let answer = service.client().set_override(service.call(request)).await;
    let saved = answer.map_err(|status| refused(&status, service.has_token()))?.into_inner().saved;
    show(saved.as_slice(), args.common.json)
}

/// The domain that is meant, where an id depends on it: a rule may be named with its domain. Asked of the service by a dry
/// run; what it refuses is told by the call that follows.
async fn domain_of(service: &Service, named: &str, spec: &OverrideSpec) -> String {
    if !named.is_empty() || !spec.rule.contains('/') {
        return named.to_owned();
    }
    let (id, spec) = (made_override_id("", spec), Some(spec.clone()));
    let request = SetOverrideRequest { id, spec, dry_run: true, ..SetOverrideRequest::default() };
    let answer = service.client().set_override(service.call(request)).await;
    let saved = answer.ok().and_then(|answer| answer.into_inner().saved);
    saved.map(|saved| saved.domain).unwrap_or_default()
}

/// Page by page.
async fn all(service: &Service, domain: &str, key: &str, value_prefix: &str) -> anyhow::Result<Vec<Override>> {
    let (mut overrides, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListOverridesRequest {
            domain: domain.to_owned(),
            page_size: PAGE,
            page_token: page_token.clone(),
            key: key.to_owned(),
            value_prefix: value_prefix.to_owned(),
        };
        let page = service.client().list_overrides(service.call(request)).await;
        let page = page.map_err(|status| refused(&status, service.has_token()))?.into_inner();
        overrides.extend(page.overrides);
        match page.next_page_token {
            end if end.is_empty() => return Ok(overrides),
            same if same == page_token => bail!("the service gives the same page again"),
            next => page_token = next,
        }
    }
}

fn show(overrides: &[Override], json: bool) -> anyhow::Result<()> {
    if json {
        return print(&(visible::json(&serde_json::to_string_pretty(overrides)?) + "\n"));
    }
    print(&overrides.iter().map(table::line).collect::<String>())
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads may have read enough (`| head`).
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
