//! `tollgate limits`: a limit as a whole, or all of a domain, switched on a running service until a moment.

mod patch;

use clap::{Args, Subcommand};
use http::Method;
use tokio::runtime;

use super::{
    ask::{self, Answer, AskArgs, Call, Service, escaped},
    exit::{BadUsage, Exit},
    show::{self, OutputArgs, Paint, Span, Tone},
};
use crate::{
    clock,
    front::api::{
        Confirmation, LimitNumbers, LimitSwitch, ListSwitchesResponse, RestoreLimitRequest, RestoreLimitResponse,
        SetSwitchRequest, SetSwitchResponse, SwitchedLimit,
    },
    limit::EnforcedShare,
    visible,
};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate limits shadow 'api/user#hourly' --for 1h --reason 'ticket 42'    counts, and denies nobody\n  \
    tollgate limits scale 'api/user' 3x --for 4h --reason 'ticket 42'         admits three times as much\n  \
    tollgate limits enforce 'api/user#new' 10% --for 1d --reason 'rollout'    denies only a tenth of the clients\n  \
    tollgate limits off 'api/user' --for 10m --reason 'ticket 42'             isn't even counted\n  \
    tollgate limits shadow --domain api --all --for 30m --reason 'incident 7'\n  \
    tollgate limits restore 'api/user' --reason 'ticket 42 is closed'\n  \
    tollgate limits list\n\n\
    Changes need --addr and a token whose scopes have `limits.write`; without --addr the admin listener of a service on\n\
    this machine is looked at. Exit code: 0 done, 1 not, 2 a command line that can't be meant so, 3 not every replica has\n\
    confirmed.")]
pub(super) struct LimitsArgs {
    #[command(subcommand)]
    action: LimitsCommand,
}

#[derive(Subcommand)]
enum LimitsCommand {
    /// Let a limit count and deny nobody
    Shadow(SwitchArgs),
    /// Let a limit admit so many times as much
    Scale(ScaleArgs),
    /// Let a limit count, and deny only a share of its clients
    Enforce(EnforceArgs),
    /// Let a limit neither count nor deny
    Off(SwitchArgs),
    /// Take a switch back before it ends
    Restore(RestoreArgs),
    /// List what is switched
    List(ListArgs),
}

/// Which limits.
#[derive(Args)]
struct TargetArgs {
    /// The id of a limit, or of a rule for all its limits: api/user#hourly
    #[arg(value_name = "LIMIT", required_unless_present = "all", conflicts_with = "all")]
    limit: Option<String>,
    /// Domain of the rules [default: the one that the limit's id begins with, the service's, or the only one]
    #[arg(long, default_value = "", hide_default_value = true)]
    domain: String,
    /// All limits of the domain
    #[arg(long)]
    all: bool,
}

#[derive(Args)]
struct ChangeArgs {
    /// Why: whoever wonders about the limit reads it
    #[arg(long)]
    reason: String,
    /// Tell what it would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Only the replica that is asked, for an hour at most, while Redis is away
    #[arg(long)]
    this_replica: bool,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
struct SwitchArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// How long it lasts, such as 30m or 4h; 30 days at most
    #[arg(long = "for", value_name = "DURATION", value_parser = show::span)]
    lasts: Span,
    #[command(flatten)]
    change: ChangeArgs,
}

/// What a switch takes that has a word of its own behind the limit.
#[derive(Args)]
struct WordedArgs {
    /// The id of a limit, or of a rule for all its limits: api/user#hourly
    #[arg(value_name = "LIMIT", required_unless_present = "all")]
    limit: Option<String>,
    /// Domain of the rules [default: the one that the limit's id begins with, the service's, or the only one]
    #[arg(long, default_value = "", hide_default_value = true)]
    domain: String,
    /// All limits of the domain, in the place of LIMIT
    #[arg(long)]
    all: bool,
    /// How long it lasts, such as 30m or 4h; 30 days at most
    #[arg(long = "for", value_name = "DURATION", value_parser = show::span)]
    lasts: Span,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Args)]
struct ScaleArgs {
    #[command(flatten)]
    of: WordedArgs,
    /// How many times as much it admits, such as 3x or 0.5x
    #[arg(value_name = "FACTOR", required_unless_present = "all")]
    factor: Option<String>,
}

#[derive(Args)]
struct EnforceArgs {
    #[command(flatten)]
    of: WordedArgs,
    /// The share of clients that it denies, such as 10% or 0.5%
    #[arg(value_name = "SHARE", required_unless_present = "all")]
    share: Option<String>,
}

#[derive(Args)]
struct RestoreArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Args)]
struct ListArgs {
    /// Only this domain
    #[arg(long, default_value = "", hide_default_value = true)]
    domain: String,
    /// Print what to change in the rule files so that each switch is there to stay
    #[arg(long)]
    patch: bool,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: LimitsArgs) -> anyhow::Result<Exit> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.action {
            LimitsCommand::Shadow(args) => set(args.target, args.lasts, args.change, Mode::word("shadow")).await,
            LimitsCommand::Off(args) => set(args.target, args.lasts, args.change, Mode::word("off")).await,
            LimitsCommand::Scale(ScaleArgs { of, factor }) => {
                let (target, factor, lasts, change) = of.with_word(factor)?;
                let factor = Some(self::factor(&factor)?);
                set(target, lasts, change, Mode { factor, ..Mode::word("scale") }).await
            }
            LimitsCommand::Enforce(EnforceArgs { of, share }) => {
                let (target, share, lasts, change) = of.with_word(share)?;
                let wrong = |why| BadUsage(format!("'{}' is no share of clients: {why}", visible::text(&share)));
                let share = EnforcedShare::parse(&share).map_err(wrong)?.to_string();
                set(target, lasts, change, Mode { share, ..Mode::word("enforce") }).await
            }
            LimitsCommand::Restore(args) => restore(args).await,
            LimitsCommand::List(args) => list(args).await,
        }
    })
}

/// What a switch does, in the words of the API.
struct Mode {
    name: &'static str,
    factor: Option<f64>,
    share: String,
}

impl Mode {
    fn word(name: &'static str) -> Mode {
        Mode { name, factor: None, share: String::new() }
    }
}

impl WordedArgs {
    /// The target and the word that stands behind it: with `--all` it is the one word that is left.
    fn with_word(self, word: Option<String>) -> anyhow::Result<(TargetArgs, String, Span, ChangeArgs)> {
        let WordedArgs { limit, domain, all, lasts, change } = self;
        let (limit, word) = if all && word.is_none() { (None, limit) } else { (limit, word) };
        if all && limit.is_some() {
            return Err(BadUsage("LIMIT and --all both say which limits: give one of them".into()).into());
        }
        Ok((TargetArgs { limit, domain, all }, word.unwrap_or_default(), lasts, change))
    }
}

/// `3x`, `0.5x`, `3`.
fn factor(text: &str) -> anyhow::Result<f64> {
    let number = text.strip_suffix(['x', 'X']).unwrap_or(text).parse::<f64>().ok().filter(|factor| factor.is_finite());
    let wrong = || BadUsage(format!("'{}' is no factor: write it as 3x or 0.5x", visible::text(text)));
    number.ok_or_else(|| wrong().into())
}

impl TargetArgs {
    /// The domain that is meant: `-` where the service knows which.
    fn domain(&self) -> &str {
        match (&*self.domain, self.limit.as_deref().and_then(|limit| limit.split_once('/'))) {
            ("", Some((domain, _))) => domain,
            ("", None) => crate::front::api::UNNAMED_DOMAIN,
            (named, _) => named,
        }
    }

    fn path(&self) -> String {
        format!("/v1/domains/{}/switches", escaped(self.domain()))
    }

    fn limit_id(&self) -> String {
        self.limit.clone().unwrap_or_default()
    }
}

async fn set(
    target: TargetArgs,
    lasts: Span,
    change: ChangeArgs,
    Mode { name, factor, share }: Mode,
) -> anyhow::Result<Exit> {
    let request = SetSwitchRequest {
        limit_id: target.limit_id(),
        all: target.all,
        mode: name.to_owned(),
        factor,
        share,
        r#for: lasts.written,
        reason: change.reason.clone(),
        dry_run: change.dry_run,
        this_replica: change.this_replica,
        ..SetSwitchRequest::default()
    };
    let paint = change.output.paint();
    ask::each(&change.ask.to_change()?, &change.output, async |service: &Service| {
        let answer: SetSwitchResponse = service.ask(Call::put(target.path(), &request)).await?;
        let mut text = String::new();
        if let Some(saved) = &answer.saved {
            text += &line(&format!("{} {}", if change.dry_run { "would switch" } else { "switched" }, in_words(saved)));
        }
        if let Some(replaced) = &answer.replaced {
            text += &line(&format!("  replaces {}", in_words(replaced)));
        }
        text += &touched(&answer.limits);
        let (confirmed, exit) = confirmation(answer.in_force.as_ref(), paint);
        Ok(Answer { text: text + &confirmed, json: serde_json::to_value(&answer)?, exit })
    })
    .await
}

async fn restore(args: RestoreArgs) -> anyhow::Result<Exit> {
    let RestoreArgs { target, change } = args;
    let request = RestoreLimitRequest {
        limit_id: target.limit_id(),
        all: target.all,
        reason: change.reason.clone(),
        dry_run: change.dry_run,
        this_replica: change.this_replica,
        ..RestoreLimitRequest::default()
    };
    let query: Vec<String> = [
        Some(format!("reason={}", escaped(&request.reason))),
        (!request.limit_id.is_empty()).then(|| format!("limit_id={}", escaped(&request.limit_id))),
        request.all.then(|| "all=true".to_owned()),
        request.dry_run.then(|| "dry_run=true".to_owned()),
        request.this_replica.then(|| "this_replica=true".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let path = format!("{}?{}", target.path(), query.join("&"));
    let paint = change.output.paint();
    ask::each(&change.ask.to_change()?, &change.output, async |service: &Service| {
        let answer: RestoreLimitResponse = service.ask(Call::new(Method::DELETE, path.clone())).await?;
        let done = if change.dry_run { "would restore" } else { "restored" };
        let mut text = String::new();
        if let Some(restored) = &answer.restored {
            text += &line(&format!("{done} {}, which was {}", target_of(restored), mode_of(restored)));
        }
        let (confirmed, exit) = confirmation(answer.in_force.as_ref(), paint);
        Ok(Answer { text: text + &confirmed, json: serde_json::to_value(&answer)?, exit })
    })
    .await
}

async fn list(args: ListArgs) -> anyhow::Result<Exit> {
    let path = match &*args.domain {
        "" => "/v1/switches".to_owned(),
        domain => format!("/v1/domains/{}/switches", escaped(domain)),
    };
    ask::each(&args.ask.services()?, &args.output, async |service: &Service| {
        let answer: ListSwitchesResponse = service.ask(Call::get(path.clone())).await?;
        let text = match (args.patch, answer.switches.is_empty()) {
            (_, true) => "nothing is switched\n".to_owned(),
            (true, false) => patch::of(service, &answer.switches).await?,
            (false, false) => answer.switches.iter().map(|of| line(&in_words(of))).collect(),
        };
        Ok(Answer { text, json: serde_json::to_value(&answer)?, exit: Exit::Done })
    })
    .await
}

fn line(text: &str) -> String {
    visible::text(text).into_owned() + "\n"
}

/// `api/user#hourly: shadow, ends … (in 1 h), by ops: ticket 42`.
pub(super) fn in_words(switch: &LimitSwitch) -> String {
    let ends = show::moment(&switch.ends, clock::now());
    let here = if switch.this_replica { ", on this replica alone" } else { "" };
    let warnings: String = switch.warnings.iter().map(|warning| format!(" ({warning})")).collect();
    let LimitSwitch { by, reason, .. } = switch;
    format!("{}: {}{here}, ends {ends}, by {by}: {reason}{warnings}", target_of(switch), mode_of(switch))
}

fn target_of(switch: &LimitSwitch) -> String {
    if switch.all { format!("all of {}", switch.domain) } else { switch.limit_id.clone() }
}

fn mode_of(switch: &LimitSwitch) -> String {
    match switch.factor {
        Some(factor) => format!("{} {factor}x", switch.mode),
        None if !switch.share.is_empty() => format!("{} {}", switch.mode, switch.share),
        None => switch.mode.clone(),
    }
}

/// Whom a limit denies, if not everybody: `, denies 10% of clients`.
pub(super) fn effect(limit: &LimitNumbers) -> String {
    match (limit.enforce, &*limit.enforce_share) {
        (true, "") => String::new(),
        (true, share) => format!(", denies {share} of clients"),
        (false, _) => ", denies nobody".to_owned(),
    }
}

/// The limits that a switch changes: a few of them.
fn touched(limits: &[SwitchedLimit]) -> String {
    const SHOWN: usize = 10;
    let numbers = |limit: &LimitNumbers| format!("{} in {} s{}", limit.requests, limit.window_seconds, effect(limit));
    let of = |limit: &SwitchedLimit| {
        let before = limit.before.as_ref().map(numbers).unwrap_or_default();
        match (&limit.after, limit.protected) {
            (_, true) => {
                format!("  {}: {before}, stays: its rule says switchable: false ({})", limit.limit_id, limit.place)
            }
            (Some(_), false) if !limit.kept_by.is_empty() => {
                format!("  {}: {before}, stays: {} is switched by itself", limit.limit_id, limit.kept_by)
            }
            (Some(after), false) => format!("  {}: {before} → {}", limit.limit_id, numbers(after)),
            (None, false) => format!("  {}: {before} → off", limit.limit_id),
        }
    };
    let mut text: String = limits.iter().take(SHOWN).map(|limit| line(&of(limit))).collect();
    if limits.len() > SHOWN {
        text += &format!("  and {} more\n", limits.len() - SHOWN);
    }
    text
}

/// How many replicas have a change in force.
fn confirmation(in_force: Option<&Confirmation>, paint: Paint) -> (String, Exit) {
    let Some(Confirmation { replicas, in_force, missing, partial }) = in_force else {
        return ("nothing was changed: --dry-run\n".to_owned(), Exit::Done);
    };
    let mut text = format!("in force on {in_force} of {replicas} replicas");
    if !missing.is_empty() {
        text += &format!("; not confirmed by {}", missing.join(", "));
    }
    if !partial.is_empty() {
        text += &format!("; {partial}");
    }
    let is_whole = missing.is_empty() && partial.is_empty();
    let (tone, exit) = if is_whole { (Tone::Good, Exit::Done) } else { (Tone::Attention, Exit::Attention) };
    (paint.on(tone, &visible::text(&text)) + "\n", exit)
}
