//! One case: its requests put to a limiter of its own, and where the answers differ from what is expected.

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;

use crate::{
    cli::offline,
    limit::{Code, Micros, Request, UnixMicros, written},
    limiter::{DecideError, Decision, Limiter, Modes, Status, explain::words},
    rules::{Case, CaseRequest, ExpectedLimit, ExpectedStatus, ExpectedWait, Remaining, RuleMatch, Rules},
};

/// A request that wasn't answered as expected.
#[derive(Serialize)]
pub(super) struct FailedRequest {
    pub line: u32,
    /// Of the time that differs first, from the case's start.
    #[serde(rename = "at_seconds", serialize_with = "seconds")]
    pub at: Micros,
    /// Its descriptors.
    pub request: Vec<String>,
    /// Which time that is, from 1, and how many there are.
    pub time: u32,
    pub times: u32,
    /// How many of them passed.
    #[serde(skip)]
    pub admitted: u32,
    pub differences: Vec<Difference>,
    /// What each descriptor met in the rules.
    pub matched: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Difference {
    pub what: String,
    pub expected: String,
    pub got: String,
}

fn seconds<S: serde::Serializer>(at: &Micros, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_f64(at.0 as f64 / 1e6)
}

/// Rules, and how requests are decided by them.
pub(super) struct CaseRunner {
    rules: Arc<Rules>,
    modes: Modes,
}

impl CaseRunner {
    pub(super) fn new(rules: Arc<Rules>, modes: Modes) -> CaseRunner {
        CaseRunner { rules, modes }
    }

    /// With counters that begin empty. All of its requests are made, whatever becomes of those before.
    pub(super) fn run(&self, case: &Case, domain: &str) -> Vec<FailedRequest> {
        let limiter = offline::limiter(Rules::clone(&self.rules), self.modes, case.start);
        case.requests.iter().filter_map(|request| self.run_request(&limiter, case.start, request, domain)).collect()
    }

    fn run_request(
        &self,
        limiter: &Limiter,
        start: UnixMicros,
        asked: &CaseRequest,
        domain: &str,
    ) -> Option<FailedRequest> {
        let request = asked.request(domain);
        let (mut admitted, mut first) = (0, None);
        for time in 1..=asked.times {
            let at = Micros(asked.at.0.saturating_add(asked.every.0.saturating_mul(u64::from(time - 1))));
            let answer = limiter
                .decide_now(&request, UnixMicros(start.0.saturating_add(at.0)))
                .expect("counters in memory answer at once");
            admitted += u32::from(matches!(&answer, Ok(decision) if decision.overall == Code::Ok));
            let mut differences = differences(asked, answer, time == asked.times);
            if let Some(expected) =
                asked.expected.admitted.filter(|expected| time == asked.times && *expected != admitted)
            {
                differences.push(Difference::of("admitted", expected, admitted));
            }
            if first.is_none() && !differences.is_empty() {
                first = Some((at, time, differences));
            }
        }
        let (at, time, differences) = first?;
        let text =
            |descriptor: &crate::limit::Descriptor<'_>| written::write_entries(descriptor.entries.iter().copied());
        Some(FailedRequest {
            line: asked.line,
            at,
            request: request.descriptors.iter().map(text).collect(),
            time,
            times: asked.times,
            admitted,
            differences,
            matched: self.matched(&request, UnixMicros(start.0.saturating_add(at.0))),
        })
    }

    /// Once for each way, with the override that then took the place of the rule's limits.
    fn matched(&self, request: &Request<'_>, now: UnixMicros) -> Vec<String> {
        let met = |descriptor: &crate::limit::Descriptor<'_>| {
            let (found, steps) = self.rules.explain(request.domain, &descriptor.entries);
            let way = words::in_words(request.domain, found, &steps);
            let RuleMatch::Rule { domain, rule } = found else { return way };
            match self.rules.override_of(domain, rule, &descriptor.entries, || now) {
                Some((row, _)) => {
                    let place = row.location();
                    format!("{way}, and the override {row} ({}:{})", place.path.display(), place.line)
                }
                None => way,
            }
        };
        request.descriptors.iter().map(met).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl Difference {
    fn of(what: &str, expected: impl ToString, got: impl ToString) -> Difference {
        Difference { what: what.to_owned(), expected: expected.to_string(), got: got.to_string() }
    }
}

fn differences(asked: &CaseRequest, answer: Result<Decision, DecideError>, is_last: bool) -> Vec<Difference> {
    let expected = &asked.expected;
    let decision = match answer {
        Ok(decision) => decision,
        // An error is no answer at all, whatever is expected.
        Err(error) => return vec![Difference::of("answer", expected.answer.map_or("an answer", name), error)],
    };
    let mut differences = Vec::new();
    if let Some(answer) = expected.answer.filter(|answer| *answer != decision.overall) {
        differences.push(Difference::of("answer", name(answer), name(decision.overall)));
    }
    if !is_last {
        return differences;
    }
    if let Some(wait) = expected.retry_after {
        let over = decision.statuses.iter().filter(|status| status.code == Code::OverLimit);
        let longest = over.filter_map(|status| status.reset).max();
        differences.extend(wait_differs("retry_after", wait, longest));
    }
    for (index, (status, expected)) in decision.statuses.iter().zip(&expected.descriptors).enumerate() {
        let prefix = if decision.statuses.len() > 1 { format!("descriptor {}: ", index + 1) } else { String::new() };
        let id = decision.notes.as_ref().and_then(|notes| notes.descriptors[index].limit_id.as_deref());
        let of_status = status_differs(expected, status, id).into_iter();
        differences.extend(of_status.map(|it| Difference { what: format!("{prefix}{}", it.what), ..it }));
    }
    differences
}

fn status_differs(expected: &ExpectedStatus, status: &Status, id: Option<&str>) -> Vec<Difference> {
    let mut differences = Vec::new();
    if let Some(answer) = expected.answer.filter(|answer| *answer != status.code) {
        differences.push(Difference::of("answer", name(answer), name(status.code)));
    }
    let remaining = match status.remaining {
        u32::MAX if status.limit.is_none() => Remaining::Unlimited,
        hits => Remaining::Hits(hits),
    };
    if let Some(expected) = expected.remaining.filter(|expected| *expected != remaining) {
        differences.push(Difference::of("remaining", remaining_text(expected), remaining_text(remaining)));
    }
    let limit = id.map_or(ExpectedLimit::None, |id| ExpectedLimit::Id(id.to_owned()));
    if let Some(expected) = expected.limit.as_ref().filter(|expected| **expected != limit) {
        differences.push(Difference::of("limit", limit_text(expected), limit_text(&limit)));
    }
    if let Some(wait) = expected.reset {
        differences.extend(wait_differs("reset", wait, status.reset));
    }
    differences
}

fn wait_differs(what: &str, expected: ExpectedWait, got: Option<Micros>) -> Option<Difference> {
    match got {
        Some(got) if expected.matches(got) => None,
        Some(got) => Some(Difference::of(what, words::wait(expected.0), words::wait(expected.as_written(got)))),
        None => Some(Difference::of(what, words::wait(expected.0), "none")),
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::OverLimit => "over_limit",
    }
}

fn remaining_text(remaining: Remaining) -> String {
    match remaining {
        Remaining::Hits(hits) => hits.to_string(),
        Remaining::Unlimited => "unlimited".to_owned(),
    }
}

fn limit_text(limit: &ExpectedLimit) -> &str {
    match limit {
        ExpectedLimit::Id(id) => id,
        ExpectedLimit::None => "none",
    }
}
