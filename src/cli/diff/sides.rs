//! The two sides of a comparison: what each is by its words, and its rules.

use std::{path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use tokio::runtime;

use crate::{
    cli::{
        ask::{AskArgs, Call, Service},
        exit::BadUsage,
        git::Revision,
    },
    rules::{self, Defaults, FullRules, LoadedRules, Problems, Rules, Selection, Sources},
};

/// How long a service may take to tell all of its rules.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where one set of rules is.
pub(super) enum Side {
    Files(PathBuf),
    Revision(Revision),
    Service(Box<Service>),
}

/// The sides of a command line: one that is named alone is compared with what a service has.
pub(super) fn of(named: &[String], ask: &AskArgs) -> anyhow::Result<[Side; 2]> {
    let [old, new] = match named {
        [new] => {
            let Ok([service]) = <[Service; 1]>::try_from(ask.services_within(PATIENCE)?) else {
                return Err(BadUsage("--addr: one service can be compared, not several".to_owned()).into());
            };
            [Side::Service(Box::new(service)), Side::parse(new, ask)?]
        }
        [_, _] if ask.is_in_arguments() => {
            let what = "--addr: two sides are named besides: leave OLD out, or name the service in its place by a URL";
            return Err(BadUsage(what.to_owned()).into());
        }
        [old, new] => [Side::parse(old, ask)?, Side::parse(new, ask)?],
        _ => bail!("clap takes one side or two"),
    };
    Ok([old, new])
}

impl Side {
    fn parse(text: &str, ask: &AskArgs) -> anyhow::Result<Side> {
        if let Some(revision) = Revision::named(text)? {
            return Ok(Side::Revision(revision));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            let admin = text.split_once("/rules").filter(|(_, query)| query.is_empty() || query.starts_with('?'));
            let (addr, is_admin) = admin.map_or((text, false), |(addr, _)| (addr, true));
            return Ok(Side::Service(Box::new(ask.service_at(addr, is_admin, PATIENCE)?)));
        }
        Ok(Side::Files(text.into()))
    }

    pub(super) fn name(&self) -> String {
        match self {
            Side::Files(path) => path.display().to_string(),
            Side::Revision(revision) => revision.name(),
            Side::Service(service) => service.name().to_owned(),
        }
    }

    /// The rules of a side that is read here.
    fn load(&self, selection: Selection, defaults: &Defaults) -> anyhow::Result<Option<Rules>> {
        let sources = match self {
            Side::Files(path) => Sources::read(std::slice::from_ref(path), selection),
            Side::Revision(revision) => revision.read(selection)?,
            Side::Service(_) => return Ok(None),
        };
        let sources = sources.and_then(|sources| sources.require_rules().map(|()| sources));
        checked(&self.name(), sources.and_then(|sources| sound(rules::load(&sources, defaults, None)))).map(Some)
    }

    /// The rules of a side that is asked.
    async fn ask(&self) -> anyhow::Result<Option<FullRules>> {
        let Side::Service(service) = self else { return Ok(None) };
        let path = if service.is_admin() { "/rules?full=true" } else { "/v1/rules" };
        let answer = service.ask_for_bytes(&Call::get(path)).await?;
        let read = FullRules::read(&answer);
        let read = read.with_context(|| format!("{} (a service of an older release tells less)", service.name()))?;
        for domain in &read.kept_domains {
            let said =
                format!("{}: the files of domain `{domain}` have errors: it keeps its last good rules", self.name());
            eprintln!("tollgate: {}", crate::visible::text(&said));
        }
        Ok(Some(read))
    }
}

/// The rules of both, those in files with `defaults`, or with those of the service that is on the other side. Files are read at
/// once: each side may have a million rows.
pub(super) fn load(
    sides: &[Side; 2],
    selection: Selection,
    defaults: impl Fn(Option<Defaults>) -> Defaults,
) -> anyhow::Result<[Rules; 2]> {
    let [old, new] = sides;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async { Ok::<_, anyhow::Error>([old.ask().await?, new.ask().await?]) })?;
    let defaults = defaults(asked.iter().flatten().map(|asked| asked.defaults).next());
    let read = thread::scope(|scope| {
        let old = scope.spawn(|| old.load(selection, &defaults));
        let new = new.load(selection, &defaults);
        let old = old.join().map_err(|_| anyhow!("the old rules can't be read"))?;
        Ok::<_, anyhow::Error>([old?, new?])
    })?;
    let [old, new] = asked;
    let [old_read, new_read] = read;
    let rules = |read: Option<Rules>, asked: Option<FullRules>| {
        read.or(asked.map(|asked| asked.rules)).context("a side is read or asked")
    };
    Ok([rules(old_read, old)?, rules(new_read, new)?])
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
