//! `tollgate test`: test cases beside the rules, played to the limiter that serves, on counters in memory and a clock
//! that the cases move. Finds the cases and their rules, and prints what became of them.

mod play;
mod print;
mod update;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::Args;

use self::play::CaseRunner;
use super::{check::OutputFormat, exit::Exit, offline::DecisionArgs, switch};
use crate::{
    rules::{self, Case, CaseFile, DotFiles, Problems, Rules, Source, Sources},
    serve,
    settings::Settings,
    sources::defaults,
};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate test config/\n  \
    tollgate test --rules config/ cases.yaml\n  \
    tollgate test --update config/                then look at what changed: git diff config/\n  \
    tollgate test --format junit config/ > results.xml\n  \
    tollgate test --json config/ | jq '.cases[] | select(.passed | not)'\n\n\
    A file of cases is called *.test.yaml and stands beside the rules; docs/src/reference/testing.md has its keys.\n\
    Exit code: 0 every case passed, 1 not.")]
pub(super) struct TestArgs {
    /// Files of cases, or directories of them
    #[arg(value_name = "PATH", default_value = "config")]
    paths: Vec<PathBuf>,
    /// Rules to test, whatever the cases say [default: what a file of cases says, else the directory that it is in]
    #[arg(long, value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// Write the answers that come in the place of those that are expected, into the files of cases
    #[arg(long)]
    update: bool,
    /// Only cases whose names contain this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Print one object with every case, as --format json does
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// How results are printed
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    /// Merge files that name the same domain instead of refusing them
    #[arg(long, env = "MERGE_DOMAIN_CONFIG", value_parser = switch)]
    merge_domain_config: bool,
    /// Skip files and directories whose names begin with a dot ("..*" always are)
    #[arg(long, env = "RUNTIME_IGNOREDOTFILES", value_parser = switch)]
    runtime_ignoredotfiles: bool,
    #[command(flatten)]
    decisions: DecisionArgs,
}

impl TestArgs {
    fn dot_files(&self) -> DotFiles {
        if self.runtime_ignoredotfiles { DotFiles::Ignore } else { DotFiles::Read }
    }
}

pub(super) fn run(args: &TestArgs) -> anyhow::Result<Exit> {
    let settings = args.decisions.settings(args.merge_domain_config)?;
    let (mut results, mut loaded) = (print::Results::default(), RulesCache::default());
    for path in case_files(args)? {
        if args.update {
            update(args, &path, &mut loaded, &settings)?;
        }
        let (file, problems) = CaseFile::read(read(&path)?);
        results.problems(problems);
        let Some(file) = file else { continue };
        let paths = rules_of(args, &file);
        let rules = match loaded.rules(paths, args.dot_files(), &settings) {
            Ok(rules) => rules,
            Err(problems) => {
                results.problems(problems);
                continue;
            }
        };
        let stage = CaseRunner::new(Arc::clone(&rules), serve::modes(&settings.decisions, true));
        match file.domains(&rules) {
            Ok(cases) => cases
                .into_iter()
                .filter(|(case, _)| is_wanted(args, case))
                .for_each(|(case, domain)| results.case(file.path(), case, stage.run(case, domain))),
            Err(problems) => results.problems(problems),
        }
    }
    results.print(if args.json { OutputFormat::Json } else { args.format })
}

/// How often a file is played for an update: the differences of a request's first time hide those of its last.
const PASSES_MAX: usize = 5;

/// Writes what comes for what is expected. A file with a mistake, in it or in its rules, is left alone: playing it says so.
fn update(args: &TestArgs, path: &Path, loaded: &mut RulesCache, settings: &Settings) -> anyhow::Result<()> {
    let Source { mut bytes, .. } = read(path)?;
    let mut changed = 0;
    for _ in 0..PASSES_MAX {
        let (Some(file), _) = CaseFile::read(Source { path: path.to_owned(), bytes: bytes.clone() }) else {
            return Ok(());
        };
        let Some(rules) = loaded.quietly(rules_of(args, &file), args.dot_files(), settings) else { return Ok(()) };
        let stage = CaseRunner::new(Arc::clone(&rules), serve::modes(&settings.decisions, true));
        let Ok(cases) = file.domains(&rules) else { return Ok(()) };
        let wanted = cases.into_iter().filter(|(case, _)| is_wanted(args, case));
        let failed: Vec<_> = wanted.map(|(case, domain)| (case, stage.run(case, domain))).collect();
        let (text, edits) = update::updated(&String::from_utf8_lossy(&bytes), &failed);
        if edits == 0 {
            break;
        }
        bytes = text.into_bytes();
        changed += edits;
    }
    if changed > 0 {
        update::replace(path, &bytes).with_context(|| format!("{} can't be written", path.display()))?;
        let plural = if changed == 1 { "" } else { "s" };
        eprintln!("tollgate: {}: wrote {changed} expected answer{plural}", path.display());
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Source> {
    Source::read(path).with_context(|| format!("{} can't be read", path.display()))
}

fn is_wanted(args: &TestArgs, case: &Case) -> bool {
    args.filter.as_ref().is_none_or(|text| case.name.contains(text))
}

/// Files that are named themselves are files of cases whatever their names; of a directory those are that say so.
fn case_files(args: &TestArgs) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in &args.paths {
        if path.is_dir() {
            let sources = Sources::read(std::slice::from_ref(path), args.dot_files())?;
            sources.skipped.iter().filter(|path| is_nearly_cases(path)).for_each(|path| {
                eprintln!("tollgate: {}: it isn't read: a file of cases is called *.test.yaml", path.display());
            });
            files.extend(sources.cases);
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        let below: Vec<_> = args.paths.iter().map(|path| path.display().to_string()).collect();
        bail!(
            "no cases in {}: a file of cases is called *.test.yaml, and has `cases:` at the beginning of a line",
            below.join(", ")
        );
    }
    Ok(files)
}

/// `api.test.YAML` was meant to be read.
fn is_nearly_cases(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem.to_string_lossy().to_lowercase().ends_with(".test"))
}

fn rules_of(args: &TestArgs, file: &CaseFile) -> Vec<PathBuf> {
    if !args.rules.is_empty() {
        return args.rules.clone();
    }
    if !file.rules.is_empty() {
        return file.rules.clone();
    }
    let directory = file.path().parent().filter(|parent| !parent.as_os_str().is_empty());
    vec![directory.unwrap_or(Path::new(".")).to_owned()]
}

/// Rules by the paths that they were read from: files of cases in one directory share them.
#[derive(Default)]
struct RulesCache(Vec<(Vec<PathBuf>, Option<Arc<Rules>>)>);

impl RulesCache {
    /// Rules without errors, whose problems are still to be printed if there are any.
    fn quietly(&mut self, paths: Vec<PathBuf>, dot_files: DotFiles, settings: &Settings) -> Option<Arc<Rules>> {
        let rules = self.rules(paths, dot_files, settings).ok();
        self.0.retain(|(_, rules)| rules.is_some());
        rules
    }

    /// Rules without errors. Their problems are printed once; a later error for the same rules prints nothing.
    fn rules(&mut self, paths: Vec<PathBuf>, dot_files: DotFiles, settings: &Settings) -> Result<Arc<Rules>, Problems> {
        if let Some((_, rules)) = self.0.iter().find(|(known, _)| *known == paths) {
            return rules.clone().ok_or_else(Problems::default);
        }
        let load = Sources::read(&paths, dot_files).and_then(|sources| {
            sources.require_rules()?;
            Ok(rules::load(&sources, &defaults(settings), None))
        });
        let rules = match load {
            Ok(load) if load.problems.has_errors() => Err(load.problems),
            Ok(load) => Ok(Arc::new(load.rules)),
            Err(problems) => Err(problems),
        };
        self.0.push((paths, rules.as_ref().ok().cloned()));
        rules
    }
}
