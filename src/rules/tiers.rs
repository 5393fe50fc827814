//! The tiers of a domain: named limits that rules and overrides refer to.

use std::{path::PathBuf, sync::Arc};

use super::{
    fields::{Said, TIER},
    form::{Form, Manner, Tier, Tiers},
    node::{Node, Place, Value},
    pen::Pen,
    terms::{self, Around},
};

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
            let first = self.beside(*its_at);
            self.error(at, format!("tier `{name}` is here a second time: first in {first}"));
        } else if form.zip(earlier.as_ref()).is_some_and(|(one, other)| words(one) != words(other)) {
            let place = self.report.elsewhere(its_path, *its_at);
            self.error(at, format!("tier `{name}` holds for the whole domain, and differs from {place}"));
        }
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
