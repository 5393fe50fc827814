//! One limit as it is written, in any of its forms, and what it comes to with the defaults around it.
//! Knows nothing of descriptors or of where a limit applies.

use crate::limit::{
    Algorithm, CountDenied, FailurePolicy, Limit, Micros, SECOND, SLIDING_LOG_MAX, SUB_WINDOWS_DEFAULT,
    SUB_WINDOWS_MAX, Unit, WINDOW_MAX,
};

use super::{
    fields::{Fields, LIMIT, Pen, REPLACED, nearest},
    yaml::{Node, Place, Value},
};

/// A value and where it is said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Said<V> {
    pub(super) value: V,
    pub(super) at: Place,
}

/// What a limit may leave to what stands around it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    pub(super) algorithm: Option<Said<Algorithm>>,
    pub(super) sub_windows: Option<Said<u8>>,
    pub(super) count_denied: Option<Said<CountDenied>>,
    pub(super) on_store_failure: Option<Said<FailurePolicy>>,
}

/// A limit as it is written.
pub(super) struct Form {
    /// `None`: unlimited.
    pub(super) quota: Option<Quota>,
    pub(super) manner: Manner,
    pub(super) burst: Option<Said<u32>>,
    pub(super) name: Box<str>,
    pub(super) replaces: Vec<Box<str>>,
    pub(super) enforce: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Quota {
    pub(super) requests: Said<u32>,
    pub(super) window: Micros,
}

impl Pen<'_> {
    /// Reads what stands beside `rate_limit`. All its mistakes are reported; `None` if there are any.
    pub(super) fn form(&mut self, node: &Node<'_>) -> Option<Form> {
        let errors = self.report.errors();
        let form = match &node.value {
            Value::Scalar { .. } => self.short_form(node),
            Value::List(_) => {
                self.error(node.at, "`rate_limit` must be one limit, not a list");
                None
            }
            Value::Map(_) => self.long_form(node),
        };
        form.filter(|_| self.report.errors() == errors)
    }

    fn short_form(&mut self, node: &Node<'_>) -> Option<Form> {
        let text = self.text(node)?;
        let quota = if text.trim() == "unlimited" {
            None
        } else {
            match short_quota(text) {
                Ok((requests, window)) => Some(Quota { requests: Said { value: requests, at: node.at }, window }),
                Err(why) => {
                    self.error(node.at, format!("`{text}` is no limit: {why}"))
                        .hint("write it as `30/5m`, `5/s` or `unlimited`");
                    return None;
                }
            }
        };
        let (name, replaces) = (Box::from(""), Vec::new());
        Some(Form { quota, manner: Manner::default(), burst: None, name, replaces, enforce: true })
    }

    fn long_form(&mut self, node: &Node<'_>) -> Option<Form> {
        let fields = self.fields(node, &LIMIT)?;
        let name = fields.get("name").and_then(|node| self.text(node)).unwrap_or_default();
        let replaces = self.replaces(&fields, name);
        let manner = self.manner(&fields);
        let burst = self.burst(&fields);
        let enforce = fields.get("enforce").and_then(|node| self.boolean(node, "enforce"));
        let unlimited = fields.get("unlimited").and_then(|node| self.boolean(node, "unlimited"));
        let quota = match unlimited {
            Some(true) => {
                self.check_unlimited(&fields);
                None
            }
            _ => Some(self.quota(&fields)?),
        };
        let (name, enforce) = (name.into(), enforce.unwrap_or(true));
        Some(Form { quota, manner, burst, name, replaces, enforce })
    }

    /// The fields of `defaults`, which limits have too.
    pub(super) fn manner(&mut self, fields: &Fields<'_, '_>) -> Manner {
        let algorithm = fields.get("algorithm").and_then(|node| {
            let value = self.word(node, "algorithm", &Algorithm::ALL, Algorithm::name)?;
            Some(Said { value, at: node.at })
        });
        let sub_windows = fields.get("sub_windows").and_then(|node| {
            let value = self.number(node, "sub_windows", 1, u32::from(SUB_WINDOWS_MAX))?;
            Some(Said { value: value as u8, at: node.at })
        });
        let count_denied = fields.get("count_denied").and_then(|node| {
            let value = self.count_denied(node)?;
            Some(Said { value, at: node.at })
        });
        let on_store_failure = self.on_store_failure(fields);
        Manner { algorithm, sub_windows, count_denied, on_store_failure }
    }

    pub(super) fn on_store_failure(&mut self, fields: &Fields<'_, '_>) -> Option<Said<FailurePolicy>> {
        let node = fields.get("on_store_failure")?;
        let value = self.word(node, "on_store_failure", &FailurePolicy::ALL, FailurePolicy::name)?;
        Some(Said { value, at: node.at })
    }

    fn count_denied(&mut self, node: &Node<'_>) -> Option<CountDenied> {
        match &node.value {
            Value::Scalar { text, .. } if text == "auto" => Some(CountDenied::Auto),
            Value::Scalar { .. } => match self.boolean(node, "count_denied")? {
                true => Some(CountDenied::Always),
                false => Some(CountDenied::Never),
            },
            _ => {
                self.error(node.at, format!("`count_denied` must be auto, true or false, not {}", node.kind()));
                None
            }
        }
    }

    fn burst(&mut self, fields: &Fields<'_, '_>) -> Option<Said<u32>> {
        let key = fields.first_of(&["burst", "capacity"])?;
        if key == "burst" && fields.get("capacity").is_some() {
            self.error(fields.place("capacity"), "`capacity` is another word for `burst`: write one of them");
        }
        let node = fields.get(key)?;
        Some(Said { value: self.number(node, key, 1, u32::MAX)?, at: node.at })
    }

    fn replaces(&mut self, fields: &Fields<'_, '_>, own: &str) -> Vec<Box<str>> {
        let Some(node) = fields.get("replaces") else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.error(node.at, format!("`replaces` must be a list, not {}", node.kind()))
                .hint("write it as `replaces: [{name: other}]`");
            return Vec::new();
        };
        let mut names = Vec::new();
        for item in items.iter() {
            let Some(replaced) = self.fields(item, &REPLACED) else { continue };
            let name = replaced.get("name").map_or(Some(""), |node| self.text(node));
            let at = replaced.place("name");
            match name {
                None => {}
                Some("") => drop(self.error(at, "an entry of `replaces` must have a name")),
                Some(name) if name == own => drop(self.error(at, format!("limit `{own}` can't replace itself"))),
                Some(name) => names.push(name.into()),
            }
        }
        names
    }

    fn check_unlimited(&mut self, fields: &Fields<'_, '_>) {
        let numbers = [
            "unit",
            "unit_multiplier",
            "requests",
            "window",
            "algorithm",
            "burst",
            "capacity",
            "sub_windows",
            "count_denied",
            "enforce",
        ];
        for key in numbers {
            if fields.get(key).is_some() {
                self.error(fields.place(key), format!("`{key}` has no meaning where `unlimited` is true"));
            }
        }
    }

    /// `requests_per_unit`, `unit`, `unit_multiplier`; or `requests`, `window`.
    fn quota(&mut self, fields: &Fields<'_, '_>) -> Option<Quota> {
        let ours = fields.first_of(&["requests", "window"]);
        let theirs = fields.first_of(&["requests_per_unit", "unit", "unit_multiplier"]);
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => {
                self.error(fields.place(ours), format!("`{ours}` and `{theirs}` are of different forms"))
                    .hint("write `requests_per_unit` and `unit`, or `requests` and `window`");
                None
            }
            (Some(_), None) => self.quota_in_window(fields),
            (None, _) => self.quota_per_unit(fields),
        }
    }

    fn quota_in_window(&mut self, fields: &Fields<'_, '_>) -> Option<Quota> {
        let requests = match fields.get("requests") {
            Some(node) => self.number(node, "requests", 0, u32::MAX).map(|value| Said { value, at: node.at }),
            None => {
                self.error(fields.place("window"), "`window` without `requests`");
                None
            }
        };
        let window = match fields.get("window") {
            Some(node) => self.text(node).and_then(|text| match duration(text) {
                Ok(window) => Some(window),
                Err(why) => {
                    self.error(node.at, format!("`{text}` is no window: {why}"))
                        .hint("write it as `30s`, `5m`, `1h` or `7d`");
                    None
                }
            }),
            None => {
                self.error(fields.place("requests"), "`requests` without `window`")
                    .hint("add `window: 1m`, or write `requests_per_unit` and `unit`");
                None
            }
        };
        Some(Quota { requests: requests?, window: window? })
    }

    fn quota_per_unit(&mut self, fields: &Fields<'_, '_>) -> Option<Quota> {
        let requests = match fields.get("requests_per_unit") {
            Some(node) => self.number(node, "requests_per_unit", 0, u32::MAX).map(|value| Said { value, at: node.at }),
            None => {
                if fields.all_known {
                    self.warn(fields.at, "no `requests_per_unit`: this limit refuses every request")
                        .hint("if that is meant, write `requests_per_unit: 0`");
                }
                Some(Said { value: 0, at: fields.at })
            }
        };
        let multiplier = fields.get("unit_multiplier").map(|node| self.number(node, "unit_multiplier", 1, u32::MAX));
        let unit = self.unit(fields);
        let (requests, unit, multiplier) = (requests?, unit?, multiplier.unwrap_or(Some(1))?);
        let window = Micros(unit.window().0.saturating_mul(u64::from(multiplier)));
        if window > WINDOW_MAX {
            self.error(fields.place("unit_multiplier"), format!("{multiplier} {}s are {TOO_LONG}", unit.name()));
            return None;
        }
        Some(Quota { requests, window })
    }

    fn unit(&mut self, fields: &Fields<'_, '_>) -> Option<Unit> {
        let names = Unit::ALL.map(Unit::name);
        let Some(node) = fields.get("unit") else {
            if fields.all_known {
                self.error(fields.at, "a limit must have a `unit`").hint(format!("it is one of {}", names.join(", ")));
            }
            return None;
        };
        let text = self.text(node)?;
        let unit = Unit::parse(text);
        if unit.is_none() {
            let problem = self.error(node.at, format!("there is no unit `{text}`: it is one of {}", names.join(", ")));
            if let Some(meant) = nearest(text, &names) {
                problem.hint(format!("did you mean `{meant}`?"));
            }
        }
        unit
    }

    /// The numbers of a limit, with what it leaves open taken from the domain and the process.
    pub(super) fn resolve(&mut self, form: &Form, quota: Quota, domain: &Manner, process: Algorithm) -> Limit {
        let algorithm = form.manner.algorithm.or(domain.algorithm).map_or(process, |said| said.value);
        let mut limit = Limit::new(quota.requests.value, quota.window, algorithm);
        let sub_windows = form.manner.sub_windows.or(domain.sub_windows);
        limit.sub_windows = sub_windows.map_or(SUB_WINDOWS_DEFAULT, |said| said.value);
        if let Some(burst) = form.burst {
            limit.burst = burst.value;
            if !algorithm.has_burst() {
                self.error(burst.at, format!("a {} has no burst", algorithm.name()))
                    .hint("add `algorithm: token_bucket` or `leaky_bucket`");
            }
        }
        if algorithm == Algorithm::SlidingLog && limit.requests > SLIDING_LOG_MAX {
            let what = format!("a sliding_log remembers every hit: at most {SLIDING_LOG_MAX} requests");
            self.error(quota.requests.at, what).hint("use `sliding_window`, which never admits too much either");
        }
        if let Some(own) = form.manner.sub_windows.filter(|_| algorithm != Algorithm::SlidingWindow) {
            self.warn(own.at, format!("a {} has no sub-windows: this is ignored", algorithm.name()));
        }
        let counted = form.manner.count_denied.or(domain.count_denied);
        if algorithm == Algorithm::SlidingWindow
            && let Some(Said { value: CountDenied::Always, at }) = counted
        {
            self.warn(at, "in a sliding_window, a client that retries steadily is never admitted again")
                .hint("leave `count_denied` out, or use `fixed_window`");
        }
        limit
    }
}

const TOO_LONG: &str = "more than ten years, the longest window";

/// `30/5m`, `5/s`, `100/hour`.
fn short_quota(text: &str) -> Result<(u32, Micros), String> {
    let (requests, window) = text.trim().split_once('/').ok_or("it has no `/`")?;
    let digits = requests.trim_end().replace('_', "");
    let requests = match digits.parse() {
        Ok(requests) if digits.bytes().all(|byte| byte.is_ascii_digit()) => requests,
        _ => return Err(format!("`{requests}` isn't a whole number from 0 to {}", u32::MAX)),
    };
    let window = window.trim_start();
    let single = format!("1{window}");
    let window = match Unit::parse(window) {
        Some(unit) => unit.window(),
        None => duration(if window.starts_with(|first: char| first.is_ascii_digit()) { window } else { &single })?,
    };
    Ok((requests, window))
}

/// `30s`, `5m`, `1h30m`, `7d`.
pub(super) fn duration(text: &str) -> Result<Micros, String> {
    let mut rest = text.trim();
    let mut sum = 0u64;
    if rest.is_empty() {
        return Err("it is empty".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|letter: char| letter.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let Ok(number) = number.parse::<u64>() else {
            return Err("it must be whole numbers, each with its unit".to_owned());
        };
        let micros = match unit {
            "us" => 1,
            "ms" => 1_000,
            "s" => SECOND.0,
            "m" => Unit::Minute.window().0,
            "h" => Unit::Hour.window().0,
            "d" => Unit::Day.window().0,
            "w" => Unit::Week.window().0,
            "" => return Err("its unit is missing: us, ms, s, m, h, d or w".to_owned()),
            unit => return Err(format!("there is no unit `{unit}`: it is us, ms, s, m, h, d or w")),
        };
        sum = sum.saturating_add(number.saturating_mul(micros));
        rest = after;
    }
    match Micros(sum) {
        Micros(0) => Err("it must be longer than 0".to_owned()),
        window if window > WINDOW_MAX => Err(format!("it is {TOO_LONG}")),
        window => Ok(window),
    }
}
