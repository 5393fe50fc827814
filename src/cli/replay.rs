//! `tollgate replay`: recorded requests played over their own time through new rules, and through those of before, by the
//! limiter and the memory store that serve. Reads logs and rules, plays, and prints what became of whom.

mod counters;
mod fit;
mod input;
mod line;
mod mapped;
mod out;
mod progress;
mod ranking;
mod recorded;
mod report;
mod scale;
mod tally;
mod timeline;

use std::{path::PathBuf, rc::Rc};

use anyhow::{anyhow, bail};
use clap::{Args, ValueEnum};

use self::{
    fit::Quantile,
    input::{DecisionLog, Input, LineFormat},
    mapped::{Csv, EnvoyLog},
    out::ChangesFile,
    progress::Progress,
    recorded::Recorded,
    report::{Report, ReportInputs, markdown, text},
    scale::Scale,
    tally::{Side, Tally},
};
use super::{
    exit::{BadUsage, Exit},
    git::Revision,
    offline::{self, DecisionArgs},
    show::{self, OutputArgs},
    switch,
};
use crate::{
    limit::{Code, UnixMicros},
    limiter::{
        DecideError,
        replay::{Purpose, Replayer, SampledClient},
    },
    rules::{self, DotFiles, Rules, Sources},
    serve,
    settings::Settings,
    sources::defaults,
};

/// What counters may take that live at the same time. Only what is needed is taken.
const COUNTERS_BYTES: u64 = 4 << 30;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate replay decisions.ndjson --rules new/                    what the new rules would have refused\n  \
    tollgate replay day-*.ndjson.gz --rules new/ --against old/      and how that differs from the old ones\n  \
    tollgate replay decisions.ndjson --rules config/ --against git:main:config\n  \
    tollgate replay decisions.ndjson --rules new/ --fit p99.9        a number that refuses one user of a thousand\n  \
    tollgate replay access.log --from envoy --fields fields.yaml --rules new/\n  \
    zcat log.gz | tollgate replay - --rules new/ --format markdown   as a comment of a pull request\n\n\
    A line is a request: {\"t\": 1764361076.25, \"domain\": \"api\", \"descriptors\": [{\"entries\": [{\"key\": \"user\",\n\
    \"value\": \"alice\"}]}]}; docs/src/guides/replay.md has the rest. Without --against what the log says it was answered is compared.\n\
    Exit code: 0 played, 1 not.")]
pub(super) struct ReplayArgs {
    /// Logs, plain or with gzip, in any order; - is standard input
    #[arg(value_name = "LOG", required = true)]
    logs: Vec<PathBuf>,
    /// Rules to play the requests to: a file or a directory, which may be given several times, or git:REVISION:PATH
    #[arg(long, value_name = "PATH", required = true)]
    rules: Vec<PathBuf>,
    /// Rules to compare with, likewise [default: what the log says]
    #[arg(long, value_name = "PATH")]
    against: Vec<PathBuf>,
    /// What the logs are
    #[arg(long, value_enum, default_value_t = LogKind::Decisions)]
    from: LogKind,
    /// Which fields of the log make a request, for --from envoy and csv: a file of YAML
    #[arg(long, value_name = "FILE", required_if_eq_any = [("from", "envoy"), ("from", "csv")])]
    fields: Option<PathBuf>,
    /// Most counters in each list
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    top: u16,
    /// Write every request whose answer differs to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Propose a number for each limit that counts in windows, so that at least this share of clients is never refused
    #[arg(long, value_name = "p99.9", value_parser = Quantile::parse)]
    fit: Option<Quantile>,
    /// With --fit: only for the limit with this id; may be given several times
    #[arg(long = "limit", value_name = "ID", requires = "fit")]
    limits: Vec<String>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = ReplayFormat::Text, conflicts_with = "json")]
    format: ReplayFormat,
    /// Merge files that name the same domain instead of refusing them
    #[arg(long, env = "MERGE_DOMAIN_CONFIG", value_parser = switch)]
    merge_domain_config: bool,
    #[command(flatten)]
    decisions: DecisionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogKind {
    /// Tollgate's decision log, or lines of JSON like it
    Decisions,
    /// Envoy's access log, as JSON or text
    Envoy,
    /// Comma-separated values, with the names of the columns first
    Csv,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReplayFormat {
    /// For people
    Text,
    /// One object
    Json,
    /// A comment of a pull request
    Markdown,
}

pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<Exit> {
    let settings = args.decisions.settings(args.merge_domain_config)?;
    let mut replay = Replay::new(args, &settings)?;
    let mut input = args.input()?;
    replay.scale = input.share().map_or(Scale::ONE, Scale::of_parts);
    let mut progress = Progress::new();
    while let Some((recorded, at)) = input.next()? {
        if let Err(error) = replay.play(recorded, at) {
            return Err(anyhow!("{}: {error:#}", input.place()));
        }
        progress.played(replay.tally.totals.requests, || input.share_read());
    }
    progress.end();
    if input.holds_denials_only() {
        bail!(
            "the log holds denials only, by which it can't be told what other rules would admit or refuse: \
             record a sample of clients (docs/src/guides/replay.md)"
        );
    }
    if replay.tally.totals.requests == 0 {
        bail!(match input.counts.without_descriptor {
            0 => "there are no requests in the log",
            _ => "no line of the log has the fields of any descriptor: is the file of fields that of this log?",
        });
    }
    replay.check()?;
    let report = replay.report(args, &input)?;
    let text = match args.format {
        _ if args.output.json => show::json(&report)?,
        ReplayFormat::Json => show::json(&report)?,
        ReplayFormat::Markdown => markdown::report(&report),
        ReplayFormat::Text => text::report(&report, args.output.paint()),
    };
    show::print(&text)?;
    Ok(Exit::Done)
}

impl ReplayArgs {
    fn input(&self) -> anyhow::Result<Input> {
        let fields = self.fields.as_deref().map(mapped::fields).transpose()?;
        Input::open(&self.logs, || {
            let format: Box<dyn LineFormat> = match (self.from, &fields) {
                (LogKind::Envoy, Some(fields)) => Box::new(EnvoyLog::new(Rc::clone(fields))?),
                (LogKind::Csv, Some(fields)) => Box::new(Csv::new(Rc::clone(fields))),
                _ => Box::new(DecisionLog),
            };
            Ok(format)
        })
    }
}

/// The rules that requests are played to, and what became of them.
struct Replay {
    rules: Replayer,
    before: Option<Replayer>,
    /// The new rules again, where nothing is refused.
    measured: Option<Replayer>,
    tally: Tally,
    out: Option<ChangesFile>,
    scale: Scale,
}

impl Replay {
    fn new(args: &ReplayArgs, settings: &Settings) -> anyhow::Result<Replay> {
        let modes = serve::modes(&settings.decisions, false);
        let replayer = |paths: &[PathBuf], purpose| {
            let snapshot = offline::snapshot(load(paths, settings)?, UnixMicros(0));
            anyhow::Ok(Replayer::new(snapshot, modes, purpose, COUNTERS_BYTES))
        };
        let rules = replayer(&args.rules, Purpose::Decide)?;
        let before = Some(&args.against).filter(|paths| !paths.is_empty());
        let before = before.map(|paths| replayer(paths, Purpose::Decide)).transpose()?;
        let measured = args.fit.as_ref().map(|_| replayer(&args.rules, Purpose::Measure)).transpose()?;
        args.limits.iter().try_for_each(|id| can_be_fitted(id, rules.rules()))?;
        let mut tally = Tally::new(args.top.into());
        tally.add_rules(rules.rules(), Side::New);
        if let Some(before) = &before {
            tally.add_rules(before.rules(), Side::Before);
        }
        let out = args.out.as_ref().map(|path| ChangesFile::create(path)).transpose()?;
        Ok(Replay { rules, before, measured, tally, out, scale: Scale::ONE })
    }

    fn play(&mut self, recorded: &Recorded, at: UnixMicros) -> anyhow::Result<()> {
        let Replay { rules, before, measured, tally, out, scale } = self;
        let client = recorded.by().filter(|_| scale.hits() > 1).map(|key| SampledClient { key, hits: scale.hits() });
        let request = recorded.request();
        tally.begin(at);
        let mut denied_by = None;
        if let Some(before) = before {
            let played = before.play(&request, at, client, |check| tally.checked_before(&check)).map_err(refused)?;
            tally.answered_before(played.code);
        } else if let Some(code) = recorded.code {
            tally.answered_before(code);
            denied_by = recorded.limit_id().filter(|_| code == Code::OverLimit);
        }
        let played = rules.play(&request, at, client, |check| tally.checked(&check, denied_by)).map_err(refused)?;
        let change = tally.answered(&request, played.code, played.is_limited);
        if let (Some(change), Some(out)) = (change, out) {
            out.write(&request, at, &change)?;
        }
        if let Some(measured) = measured {
            measured.play(&request, at, client, |check| tally.measured(&check)).map_err(refused)?;
        }
        Ok(())
    }

    /// Whether what was counted is true.
    fn check(&self) -> anyhow::Result<()> {
        let replayers = [Some(&self.rules), self.before.as_ref(), self.measured.as_ref()];
        if replayers.into_iter().flatten().any(|replayer| replayer.overflow_hits() > 0) {
            bail!(
                "more counters live at the same time than fit into {} GiB: play fewer clients, such as a sample of them",
                COUNTERS_BYTES >> 30
            );
        }
        if self.out.is_some() && self.tally.totals.compared == 0 {
            bail!("there is nothing to compare with: name the rules of before with --against");
        }
        Ok(())
    }

    fn report(self, args: &ReplayArgs, input: &Input) -> anyhow::Result<Report> {
        self.out.map(ChangesFile::end).transpose()?;
        let sample = input.share().map(|parts| (parts, input.by()));
        let is_wanted = |id: &str| args.limits.is_empty() || args.limits.iter().any(|wanted| wanted == id);
        let fit = args.fit.iter().flat_map(|share| {
            let limits = self.tally.limits.iter().filter(|limit| is_wanted(&limit.id));
            limits.filter_map(|limit| fit::fit(limit, share, self.scale))
        });
        let fit = fit.collect();
        let inputs =
            ReportInputs { top: args.top.into(), counts: &input.counts, sample, against: self.before.is_some(), fit };
        Ok(Report::new(self.tally, inputs))
    }
}

/// Whether a limit that is named can have a number proposed.
fn can_be_fitted(id: &str, rules: &Rules) -> anyhow::Result<()> {
    match rules.limits().find(|(_, _, limit)| *limit.id == *id) {
        None => bail!("the rules have no limit {id}"),
        Some((_, _, limit)) if limit.limit.algorithm.has_burst() => {
            bail!("{id} counts in a bucket, which has no single number: a rate and a burst")
        }
        Some(_) => Ok(()),
    }
}

fn refused(error: DecideError) -> anyhow::Error {
    anyhow!("the service refuses this request: {error}")
}

/// The revision of git that is named in the place of files.
fn revision(paths: &[PathBuf]) -> anyhow::Result<Option<Revision>> {
    let named = paths.iter().find_map(|path| path.to_str().filter(|text| text.starts_with("git:")));
    let Some(named) = named else { return Ok(None) };
    if paths.len() > 1 {
        return Err(
            BadUsage(format!("{named}: a revision is all that a side has: name no other rules beside it")).into()
        );
    }
    Revision::named(named)
}

fn load(paths: &[PathBuf], settings: &Settings) -> anyhow::Result<Rules> {
    let sources = match revision(paths)? {
        Some(revision) => revision.read(DotFiles::Read.into())??,
        None => Sources::read(paths, DotFiles::Read)?,
    };
    sources.require_rules()?;
    let load = rules::load(&sources, &defaults(settings), None);
    if load.problems.has_errors() {
        bail!("the rules have errors:\n{}", load.problems.render());
    }
    Ok(load.rules)
}
