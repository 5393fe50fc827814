//! Lines of rule files as they were loaded. Knows nothing of gRPC or HTTP.

use std::path::Path;

use super::{ApiError, GetRuleTextRequest, GetRuleTextResponse, bounds};
use crate::{
    limiter::Snapshot,
    rules::{Domain, RuleTexts},
};

/// Lines of an answer, if the call doesn't say how many.
const LINES_DEFAULT: u32 = 500;
const LINES_MAX: u32 = 1_000;

/// The caller may see these `domains` (`None` is all, and files that are of none yet).
pub(super) fn read(
    snapshot: &Snapshot,
    request: &GetRuleTextRequest,
    domains: Option<&[&str]>,
) -> Result<GetRuleTextResponse, ApiError> {
    bounds::check_filled("path", &request.path)?;
    let count = match request.lines {
        0 => LINES_DEFAULT,
        count @ 1..=LINES_MAX => count,
        _ => {
            let what = format!("an answer has at most {LINES_MAX} lines");
            return Err(ApiError::invalid("lines", what, "ask for the later ones with line="));
        }
    };
    let path = Path::new(&request.path);
    let is_seen = |domain: &&Domain| domains.is_none_or(|domains| domains.contains(&domain.name()));
    let mut seen = snapshot.rules.domains().iter().map(|domain| &**domain).filter(is_seen);
    let is_in_force = seen.any(|domain| has_file(domain, path));
    let texts = &snapshot.texts;
    let of = |texts: &RuleTexts| texts.get(path).cloned();
    // A caller for some domains sees the files that those have in force, and what was read of them since.
    let in_force = of(&texts.in_force).filter(|_| is_in_force);
    let read = of(&texts.read).filter(|_| !request.in_force && (is_in_force || domains.is_none()));
    let text = read.or(in_force).ok_or_else(|| {
        let path = bounds::shown(&request.path);
        ApiError::NotFound(format!("no text is kept of `{path}`: /v1/rule-files says of which files one is"))
    })?;
    let line = request.line.max(1);
    Ok(GetRuleTextResponse {
        path: request.path.clone(),
        in_force: is_in_force && (request.in_force || texts.read.has_same(&texts.in_force, path)),
        lines_total: text.lines(),
        line,
        lines: text.read(line, count),
    })
}

pub(super) fn has_file(domain: &Domain, path: &Path) -> bool {
    domain.files().iter().chain(domain.override_files()).any(|of| of == path)
}
