//! The tiers of a domain: named limits that rules and overrides refer to.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use super::{
    fields::{Pen, TIER, nearest},
    form::{Form, Manner, Said},
    quota::Quota,
    terms::{self, Around},
    yaml::{Node, Place, Value},
};

/// The tiers, by name.
#[derive(Default)]
pub(super) struct Tiers {
    by_name: BTreeMap<Box<str>, Tier>,
}

struct Tier {
    /// The limit; `None` if it has a mistake, which is reported.
    form: Option<Form>,
    path: Arc<PathBuf>,
    at: Place,
}

impl Tiers {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    fn names(&self) -> Vec<&str> {
        self.by_name.keys().map(|name| &**name).collect()
    }
}

impl Pen<'_> {
    /// Adds the tiers of one file.
    pub(super) fn tiers(&mut self, path: &Arc<PathBuf>, node: &Node<'_>, around: &mut Around) {
        let Value::Map(entries) = &node.value else {
            self.error(node.at, format!("`tiers` must be a map, not {}", node.kind()))
                .hint("write a tier as `gold: {requests_per_unit: 6000, unit: minute}`");
            return;
        };
        for (key, value) in entries.iter() {
            let Some(name) = self.key(key) else { continue };
            let form = self.form(value, &TIER, &Tiers::default());
            let form = form.map(|form| Form { tier: Some(name.into()), ..form });
            if let Some((form, quota)) = form.as_ref().and_then(|form| Some((form, form.quota?))) {
                self.check_numbers(form, quota, terms::numbers(form, quota, around), around);
            }
            if let Some(before) = around.tiers.by_name.get(name) {
                self.clash(name, key.at, path, form.as_ref(), before);
                continue;
            }
            around.tiers.by_name.insert(name.into(), Tier { form, path: Arc::clone(path), at: key.at });
        }
    }

    /// Reports a tier that exists already: in the same file in any case, in another file if the two differ.
    fn clash(&mut self, name: &str, at: Place, path: &Arc<PathBuf>, form: Option<&Form>, before: &Tier) {
        let Tier { form: earlier, path: its_path, at: its_at } = before;
        if Arc::ptr_eq(path, its_path) {
            self.error(at, format!("tier `{name}` is here a second time: first in line {}", its_at.line));
        } else if form.zip(earlier.as_ref()).is_some_and(|(one, other)| words(one) != words(other)) {
            let place = format!("{}:{}", its_path.display(), its_at.line);
            self.error(at, format!("tier `{name}` holds for the whole domain, and differs from {place}"));
        }
    }

    /// The limit of a tier, as if it were written where it is used.
    pub(super) fn tier(&mut self, node: &Node<'_>, tiers: &Tiers) -> Option<Form> {
        let name = self.text(node)?;
        if let Some(tier) = tiers.by_name.get(name) {
            return tier.form.as_ref().map(|form| form.moved_to(node.at));
        }
        let problem = self.error(node.at, format!("there is no tier `{name}`"));
        match nearest(name, &tiers.names()) {
            Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
            None if tiers.len() == 0 => problem.hint("tiers stand under `tiers`, beside `domain`"),
            None => problem.hint(format!("the domain has {}", tiers.names().join(", "))),
        }
        None
    }
}

/// All of a tier but the locations.
fn words(form: &Form) -> impl PartialEq {
    let Manner { algorithm, sub_windows, count_denied, on_store_failure } = form.manner;
    let quota = form.quota.map(|quota| (quota.requests.value, quota.span.window()));
    let manner = (value(algorithm), value(sub_windows), value(count_denied), value(on_store_failure));
    (quota, manner, value(form.burst), form.enforce)
}

fn value<V>(said: Option<Said<V>>) -> Option<V> {
    said.map(|said| said.value)
}

impl Form {
    fn moved_to(&self, at: Place) -> Form {
        fn moved<V: Copy>(said: Option<Said<V>>, at: Place) -> Option<Said<V>> {
            said.map(|said| Said { at, ..said })
        }
        let Manner { algorithm, sub_windows, count_denied, on_store_failure } = self.manner;
        Form {
            at,
            quota: self.quota.map(|quota| Quota { requests: Said { at, ..quota.requests }, ..quota }),
            manner: Manner {
                algorithm: moved(algorithm, at),
                sub_windows: moved(sub_windows, at),
                count_denied: moved(count_denied, at),
                on_store_failure: moved(on_store_failure, at),
            },
            burst: moved(self.burst, at),
            ..self.clone()
        }
    }
}
