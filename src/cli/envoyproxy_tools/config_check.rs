//! `ratelimit_config_check`: the rule files of a directory, loaded as serving does. Unlike its namesake it names every
//! problem, also those of the YAML itself, and reads a mounted ConfigMap.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;

use super::{Flag, GoFlags, Takes};
use crate::rules::{self, Defaults, DotFiles, FileNames, Selection, Sources};

pub(super) const FLAGS: &[Flag] = &[
    ("config_dir", Takes::Text, "path to directory containing rate limit configs"),
    ("merge_domain_configs", Takes::Switch, "whether to merge configurations, referencing the same domain"),
];

pub(super) fn run(given: &GoFlags) -> anyhow::Result<ExitCode> {
    println!("checking rate limit configs...");
    let Some(directory) = given.text("config_dir") else { bail!("-config_dir is needed") };
    println!("loading config directory: {directory}");
    let selection = Selection { dot_files: DotFiles::Read, names: FileNames::Any };
    let sources = Sources::read(&[PathBuf::from(directory)], selection);
    let sources = match sources.and_then(|sources| sources.require_rules().map(|()| sources)) {
        Ok(sources) => sources,
        Err(problems) => return Ok(refuse(&problems.render())),
    };
    for source in &sources.files {
        println!("opening config file: {}", source.path.display());
    }
    let defaults = Defaults { merge_domains: given.switch("merge_domain_configs"), ..Defaults::default() };
    let load = rules::load(&sources, &defaults, None);
    if load.problems.has_errors() {
        return Ok(refuse(&load.problems.render()));
    }
    print!("{}", load.problems.render());
    println!("all rate limit configs ok");
    Ok(ExitCode::SUCCESS)
}

fn refuse(problems: &str) -> ExitCode {
    println!("error loading rate limit configs:\n{problems}");
    ExitCode::FAILURE
}
