//! A case file's YAML to cases.

use std::path::{Path, PathBuf};

use super::schemas::{CASE, DESCRIPTOR, EXPECT, FILE, REQUEST, STATUS, TIMES_MAX};
use super::written;
use super::{
    Case, CaseDescriptor, CaseRequest, Expected, ExpectedLimit, ExpectedStatus, ExpectedWait, Remaining, START,
};
use crate::{
    limit::{
        Code, HITS_MAX, Micros, Unit, UnixMicros, moment,
        written::{OwnedEntry, parse_entries},
    },
    rules::{
        Source,
        fields::{Fields, Located},
        node::{Location, Node, NodeValue},
        pen::NodeReader,
        problem::ProblemCollector,
        rate::{duration, short_rate},
        scalar::Plain,
        yaml,
    },
};

const ANSWERS: [(&str, Code); 2] = [("ok", Code::Ok), ("over_limit", Code::OverLimit)];

/// What holds for all cases of a file.
struct CaseDefaults {
    domain: Option<Located<String>>,
    start: UnixMicros,
}

pub(super) fn file(source: &Source, report: &mut ProblemCollector) -> Option<(Vec<PathBuf>, Vec<Case>)> {
    let mut reader = NodeReader { report, path: &source.path };
    let text = reader.utf8(&source.bytes)?;
    let root = reader.case_file(text)?;
    let fields = reader.own_fields(&root, &FILE)?;
    let rules = fields.get("rules").map(|node| reader.paths(node)).unwrap_or_default();
    let common = CaseDefaults { domain: reader.domain(&fields), start: reader.start(&fields).unwrap_or(START) };
    let Some(node) = fields.get("cases") else {
        if fields.all_known {
            reader.error(fields.at, "a case file must have `cases`").hint("write it at the beginning of a line");
        }
        return None;
    };
    let cases = reader.items(node, "cases")?.iter().filter_map(|node| reader.case(node, &common)).collect();
    Some((rules, cases))
}

impl NodeReader<'_> {
    fn case_file<'t>(&mut self, text: &'t str) -> Option<Node<'t>> {
        let document = yaml::parse(text);
        if let Some(at) = document.second {
            self.error(at, "a second document begins here").hint("put it in a file of its own");
        }
        if !document.faults.is_empty() {
            self.faults(document.faults);
            return None;
        }
        let root = document.root.filter(|root| !root.is_null());
        if root.is_none() {
            let top = Location { line: 1, column: 1, width: 1 };
            self.error(top, "the file is empty: it must at least have `cases`");
        }
        root
    }

    /// A list that isn't empty.
    fn items<'n, 't>(&mut self, node: &'n Node<'t>, key: &str) -> Option<&'n [Node<'t>]> {
        match &node.value {
            NodeValue::List(items) if !items.is_empty() => return Some(items),
            NodeValue::List(_) => self.error(node.at, format!("`{key}` is empty")),
            _ => self.error(node.at, format!("`{key}` must be a list, not {}", node.kind())),
        };
        None
    }

    fn domain(&mut self, fields: &Fields<'_, '_>) -> Option<Located<String>> {
        let node = fields.get("domain")?;
        Some(Located { value: self.text(node)?.to_owned(), at: node.at })
    }

    fn start(&mut self, fields: &Fields<'_, '_>) -> Option<UnixMicros> {
        let node = fields.get("start")?;
        let text = self.text(node)?;
        match moment::parse(text) {
            Ok(start) => Some(start),
            Err(why) => {
                self.error(node.at, format!("`{text}` is no moment: {why}"));
                None
            }
        }
    }

    /// One path or several, from where the file is.
    fn paths(&mut self, node: &Node<'_>) -> Vec<PathBuf> {
        let nodes = match &node.value {
            NodeValue::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let directory = self.path.parent().unwrap_or(Path::new("")).to_owned();
        nodes.iter().filter_map(|node| Some(directory.join(self.text(node)?))).collect()
    }

    fn case(&mut self, node: &Node<'_>, common: &CaseDefaults) -> Option<Case> {
        let fields = self.own_fields(node, &CASE)?;
        let name = fields.get("name").and_then(|node| self.text(node)).unwrap_or_default();
        if name.is_empty() && fields.all_known {
            self.error(fields.at, "a case must have a `name`").hint("say what it shows: it is printed when it fails");
        }
        let domain = self.domain(&fields).or_else(|| common.domain.clone());
        let start = self.start(&fields).unwrap_or(common.start);
        let Some(list) = fields.get("requests") else {
            if fields.all_known {
                self.error(fields.at, "a case must have `requests`");
            }
            return None;
        };
        let (mut requests, mut sound): (Vec<CaseRequest>, _) = (Vec::new(), true);
        for item in self.items(list, "requests")? {
            let before = requests.last().map_or(Micros(0), CaseRequest::last);
            match self.request(item, before) {
                Some(request) => requests.push(request),
                None => sound = false,
            }
        }
        if sound && !requests.iter().any(|request| request.expected.is_something()) {
            self.error(fields.at, format!("case `{name}` expects nothing, and so can't fail"))
                .hint("write `expect: ok` or `expect: over_limit` beside a request");
        }
        Some(Case { name: name.to_owned(), line: fields.at.line, domain, at: fields.at, start, requests })
    }

    fn request(&mut self, node: &Node<'_>, before: Micros) -> Option<CaseRequest> {
        let fields = self.own_fields(node, &REQUEST)?;
        let errors = self.report.errors();
        let at = self.at(&fields, before);
        let descriptors = self.descriptors(&fields);
        let hits = fields.get("hits").map_or(Some(1), |node| self.number(node, "hits", 1, u32::MAX));
        let times = fields.get("times").map_or(Some(1), |node| self.number(node, "times", 1, TIMES_MAX));
        let every = fields.get("every").map_or(Some(Micros(0)), |node| self.wait(node, "every"));
        if fields.get("every").is_some() && fields.get("times").is_none() {
            self.error(fields.location("every"), "`every` without `times`").hint("say how often: `times: 5`");
        }
        // Where these are wrong, what is expected of them can't be held against their numbers, but is read.
        let (number, most) = (descriptors.as_ref().map(Vec::len), times.unwrap_or(TIMES_MAX));
        let expected = fields.get("expect").map(|node| self.expected(node, number, most)).unwrap_or_default();
        let (at, hits, times, every, descriptors) = (at?, i64::from(hits?), times?, every?, descriptors?);
        let written = fields.get("expect").map(|node| written::expectations(node, descriptors.len()));
        let written = written.unwrap_or_default();
        let request = CaseRequest { line: fields.at.line, at, descriptors, hits, times, every, expected, written };
        (fields.all_known && self.report.errors() == errors).then_some(request)
    }

    /// The moment of a request, from that of the request before it.
    fn at(&mut self, fields: &Fields<'_, '_>, before: Micros) -> Option<Micros> {
        match (fields.get("at"), fields.get("after")) {
            (Some(_), Some(node)) => {
                self.error(node.at, "`at` and `after` both say when: write one of them");
                None
            }
            (Some(node), None) => {
                let at = self.wait(node, "at")?;
                if at < before {
                    self.error(node.at, "this is before the request above: time only goes forward")
                        .hint("`at` counts from the start of the case, `after` from the request above");
                    return None;
                }
                Some(at)
            }
            (None, Some(node)) => Some(Micros(before.0.saturating_add(self.wait(node, "after")?.0))),
            (None, None) => Some(before),
        }
    }

    /// A duration that may be 0.
    fn wait(&mut self, node: &Node<'_>, key: &str) -> Option<Micros> {
        let text = self.text(node)?;
        if matches!(text, "0" | "0s") {
            return Some(Micros(0));
        }
        match duration(text) {
            Ok(wait) => Some(wait),
            Err(why) => {
                self.error(node.at, format!("`{key}` has no `{text}`: {why}")).hint("write it as `90s` or `1m30s`");
                None
            }
        }
    }

    fn descriptors(&mut self, fields: &Fields<'_, '_>) -> Option<Vec<CaseDescriptor>> {
        match (fields.get("descriptor"), fields.get("descriptors")) {
            (Some(node), None) => Some(vec![self.descriptor(node)?]),
            (None, Some(node)) => {
                let items = self.items(node, "descriptors")?;
                let descriptors: Vec<_> = items.iter().filter_map(|node| self.descriptor(node)).collect();
                (descriptors.len() == items.len()).then_some(descriptors)
            }
            (Some(_), Some(_)) => {
                self.error(fields.location("descriptors"), "`descriptor` and `descriptors`: write one of them");
                None
            }
            (None, None) => {
                if fields.all_known {
                    self.error(fields.at, "a request must have a `descriptor`")
                        .hint("write it as `descriptor: user=alice` or `descriptor: {user: alice}`");
                }
                None
            }
        }
    }

    /// `user=alice,endpoint=/login`; `{user: alice, endpoint: /login}`; or with more to say, `{entries: …, hits: 3}`.
    fn descriptor(&mut self, node: &Node<'_>) -> Option<CaseDescriptor> {
        let is_long = match &node.value {
            // An entry's value is text: a map or list beside `entries` is none.
            NodeValue::Map(pairs) => pairs.iter().any(|(key, value)| {
                let is_entries = matches!(&key.value, NodeValue::Scalar { text, .. } if text == "entries");
                is_entries && !matches!(value.value, NodeValue::Scalar { .. })
            }),
            _ => false,
        };
        if !is_long {
            return Some(CaseDescriptor { entries: self.entries(node)?, hits: None, limit: None });
        }
        let fields = self.own_fields(node, &DESCRIPTOR)?;
        let entries = self.entries(fields.get("entries")?);
        let hits = fields.get("hits").map_or(Some(None), |node| self.hits(node).map(Some));
        let limit = fields.get("limit").map_or(Some(None), |node| self.requested(node).map(Some));
        Some(CaseDescriptor { entries: entries?, hits: hits?, limit: limit? })
    }

    fn entries(&mut self, node: &Node<'_>) -> Option<Vec<OwnedEntry>> {
        match &node.value {
            NodeValue::Scalar { .. } => {
                let text = self.text(node)?;
                match parse_entries(text) {
                    Ok(entries) => Some(entries),
                    Err(why) => {
                        self.error(node.at, why).hint("write it as `user=alice` or `user=alice,endpoint=/login`");
                        None
                    }
                }
            }
            NodeValue::Map(pairs) if !pairs.is_empty() => pairs
                .iter()
                .map(|(key, value)| {
                    let (key, value) = (self.text(key)?.to_owned(), self.text(value)?.to_owned());
                    Some(OwnedEntry { key, value })
                })
                .collect(),
            NodeValue::List(items) if !items.is_empty() => {
                let lists: Option<Vec<_>> = items.iter().map(|item| self.entries(item)).collect();
                Some(lists?.concat())
            }
            NodeValue::Map(_) | NodeValue::List(_) => {
                self.error(node.at, "a descriptor must have entries");
                None
            }
        }
    }

    /// A descriptor's own cost: 0 looks, negative gives back.
    fn hits(&mut self, node: &Node<'_>) -> Option<i64> {
        if let NodeValue::Scalar { text, plain: true } = &node.value
            && let Plain::Int(hits) = Plain::of(text)
            && hits.abs() <= HITS_MAX
        {
            return Some(hits);
        }
        self.error(node.at, format!("`hits` must be a whole number from -{HITS_MAX} to {HITS_MAX}"));
        None
    }

    /// A limit that comes with the request, as Envoy sends it: so many in one unit.
    fn requested(&mut self, node: &Node<'_>) -> Option<(u32, Unit)> {
        let text = self.text(node)?;
        let found = short_rate(text).and_then(|(requests, window)| {
            let unit = Unit::of(window).ok_or("a request's own limit is in one unit: second, minute, hour, day")?;
            Ok((requests, unit))
        });
        found
            .map_err(|why| {
                self.error(node.at, format!("`{text}` is no limit of a request: {why}")).hint("write it as `5/minute`");
            })
            .ok()
    }

    fn expected(&mut self, node: &Node<'_>, descriptors: Option<usize>, times: u32) -> Expected {
        let errors = self.report.errors();
        if let NodeValue::Scalar { .. } = &node.value {
            return Expected { answer: self.answer(node), ..Expected::default() };
        }
        let Some(fields) = self.own_fields(node, &EXPECT) else { return Expected::default() };
        let status = self.status(&fields);
        let answer = fields.get("answer").and_then(|node| self.answer(node));
        let admitted = fields.get("admitted").and_then(|node| self.number(node, "admitted", 0, times));
        if let (Some(_), Some(node)) = (admitted, fields.get("answer")) {
            self.error(node.at, "`answer` holds for each time, `admitted` counts: write one of them");
        }
        let retry_after =
            fields.get("retry_after").and_then(|node| Some(ExpectedWait(self.wait(node, "retry_after")?)));
        let own = ["remaining", "limit", "reset"].into_iter().find(|key| fields.get(key).is_some());
        let list = match (fields.get("descriptors"), own) {
            (Some(node), None) => self.statuses(node, descriptors),
            (Some(_), Some(own)) => {
                self.error(fields.location(own), format!("`{own}` stands in `descriptors`, once for each"));
                Vec::new()
            }
            (None, Some(own)) if descriptors.is_some_and(|number| number > 1) => {
                self.error(fields.location(own), format!("`{own}` of which descriptor? The request has several"))
                    .hint(format!("write `descriptors: [{{{own}: …}}, …]`, once for each"));
                Vec::new()
            }
            (None, Some(_)) => vec![ExpectedStatus { answer: None, ..status }],
            (None, None) => Vec::new(),
        };
        let expected = Expected { answer, admitted, retry_after, descriptors: list };
        if self.report.errors() == errors && fields.all_known && !expected.is_something() {
            self.error(fields.at, "nothing is expected here")
                .hint("write `expect: ok` or `expect: {answer: ok, remaining: 4}`");
        }
        expected
    }

    fn statuses(&mut self, node: &Node<'_>, descriptors: Option<usize>) -> Vec<ExpectedStatus> {
        let Some(items) = self.items(node, "descriptors") else { return Vec::new() };
        if let Some(number) = descriptors.filter(|number| *number != items.len()) {
            let what = format!("one for each descriptor: the request has {number}, and here are {}", items.len());
            self.error(node.at, what);
        }
        let of = |reader: &mut Self, item: &Node<'_>| match &item.value {
            NodeValue::Scalar { .. } => ExpectedStatus { answer: reader.answer(item), ..ExpectedStatus::default() },
            _ => reader.own_fields(item, &STATUS).map(|fields| reader.status(&fields)).unwrap_or_default(),
        };
        items.iter().map(|item| of(self, item)).collect()
    }

    fn status(&mut self, fields: &Fields<'_, '_>) -> ExpectedStatus {
        let remaining = fields.get("remaining").and_then(|node| match &node.value {
            NodeValue::Scalar { text, .. } if text == "unlimited" => Some(Remaining::Unlimited),
            _ => self.number(node, "remaining", 0, u32::MAX).map(Remaining::Hits),
        });
        let limit = fields.get("limit").and_then(|node| match self.text(node)? {
            "none" => Some(ExpectedLimit::None),
            id => Some(ExpectedLimit::Id(id.to_owned())),
        });
        ExpectedStatus {
            answer: fields.get("answer").and_then(|node| self.answer(node)),
            remaining,
            limit,
            reset: fields.get("reset").and_then(|node| Some(ExpectedWait(self.wait(node, "reset")?))),
        }
    }

    /// In any case: the wire says OVER_LIMIT.
    fn answer(&mut self, node: &Node<'_>) -> Option<Code> {
        let text = self.text(node)?;
        let found = ANSWERS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        if found.is_none() {
            self.error(node.at, format!("there is no answer `{text}`: it is ok or over_limit"));
        }
        found.map(|(_, code)| code)
    }
}
