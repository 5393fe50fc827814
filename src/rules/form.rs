//! One limit as it is written, in any of its forms, and what it comes to with the defaults around it.
//! Knows nothing of descriptors or of where a limit applies.

use crate::limit::{
    Algorithm, CountDenied, FailurePolicy, Limit, SLIDING_LOG_MAX, SUB_WINDOWS_DEFAULT, SUB_WINDOWS_MAX,
};

use super::{
    fields::{Fields, LIMIT, Pen, REPLACED},
    quota::{Quota, short_quota},
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
