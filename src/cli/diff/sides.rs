//! The two sides of a comparison: what each is by its words, and its rules.

use std::{path::PathBuf, thread};

use anyhow::{anyhow, bail};

use crate::rules::{self, Defaults, LoadedRules, Problems, Rules, Selection, Sources};

/// Where one set of rules is.
pub(super) enum Side {
    Files(PathBuf),
}

impl Side {
    pub(super) fn parse(text: &str) -> anyhow::Result<Side> {
        Ok(Side::Files(text.into()))
    }

    fn name(&self) -> String {
        match self {
            Side::Files(path) => path.display().to_string(),
        }
    }

    fn load(&self, selection: Selection, defaults: &Defaults) -> anyhow::Result<Rules> {
        let sources = match self {
            Side::Files(path) => Sources::read(std::slice::from_ref(path), selection),
        };
        let sources = sources.and_then(|sources| sources.require_rules().map(|()| sources));
        checked(&self.name(), sources.and_then(|sources| sound(rules::load(&sources, defaults, None))))
    }
}

/// Both at once: each may have a million rows.
pub(super) fn load(sides: [Side; 2], selection: Selection, defaults: &Defaults) -> anyhow::Result<[Rules; 2]> {
    let [old, new] = &sides;
    thread::scope(|scope| {
        let old = scope.spawn(|| old.load(selection, defaults));
        let new = new.load(selection, defaults);
        let old = old.join().map_err(|_| anyhow!("the old rules can't be read"))?;
        Ok([old?, new?])
    })
}

/// Rules without errors.
fn sound(loaded: LoadedRules) -> Result<Rules, Problems> {
    if loaded.problems.has_errors() { Err(loaded.problems) } else { Ok(loaded.rules) }
}

fn checked(name: &str, rules: Result<Rules, Problems>) -> anyhow::Result<Rules> {
    match rules {
        Ok(rules) => Ok(rules),
        Err(problems) => {
            eprint!("{}", problems.render());
            bail!("{name}: these rules have errors, so that there is nothing to compare")
        }
    }
}
