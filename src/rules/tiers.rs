//! Reads the tiers of a domain: named limits that rules and overrides refer to. How they are looked up is in `form`.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use super::{
    fields::{Located, TIER},
    node::{Location, Node, NodeValue},
    pen::NodeReader,
    spelling::TextOf,
    terms::{self, DomainDefaults},
    written_limit::{LimitDefaults, Tier, Tiers, WrittenLimit},
};

impl NodeReader<'_> {
    /// Adds the tiers of one file.
    pub(super) fn tiers(&mut self, path: &Arc<PathBuf>, node: &Node<'_>, domain_defaults: &mut DomainDefaults) {
        let NodeValue::Map(entries) = &node.value else {
            self.error(node.at, format!("`tiers` must be a map, not {}", node.kind()))
                .hint("write a tier as `gold: {requests_per_unit: 6000, unit: minute}`");
            return;
        };
        for (key, value) in entries.iter() {
            let Some(name) = self.key(key) else { continue };
            self.check_spelling(name, TextOf::TierName, || key.at);
            let written = self.written_limit(value, &TIER, &Tiers::default());
            let written = written.map(|written| WrittenLimit { tier: Some(name.into()), ..written });
            if let Some((written, quota)) = written.as_ref().and_then(|written| Some((written, written.rate?))) {
                self.check_numbers(
                    written,
                    quota,
                    terms::resolved_limit(written, quota, domain_defaults),
                    domain_defaults,
                );
            }
            if let Some(before) = domain_defaults.tiers.by_name.get(name) {
                let merge = domain_defaults.process.merge_domains;
                self.clash(name, (path, key.at), written.as_ref(), (before, merge));
                continue;
            }
            domain_defaults.tiers.by_name.insert(
                name.into(),
                Tier { limit: written, path: Arc::clone(path), at: key.at, is_used: AtomicBool::new(false) },
            );
        }
    }

    /// Reports a tier that exists already: in the same file in any case, in another file if the two differ. That two files
    /// may not be one domain (`merge` is false) is reported elsewhere.
    fn clash(
        &mut self,
        name: &str,
        (path, at): (&Arc<PathBuf>, Location),
        written: Option<&WrittenLimit>,
        (before, merge): (&Tier, bool),
    ) {
        let Tier { limit: earlier, path: its_path, at: its_at, .. } = before;
        if Arc::ptr_eq(path, its_path) {
            let first = self.beside(*its_at);
            self.error(at, format!("tier `{name}` is here a second time: first in {first}"));
        } else if merge && written.zip(earlier.as_ref()).is_some_and(|(one, other)| words(one) != words(other)) {
            let location = self.report.elsewhere(its_path, *its_at);
            self.error(at, format!("tier `{name}` holds for the whole domain, and differs from {location}"));
        }
    }
}

/// All of a tier but the locations.
fn words(written: &WrittenLimit) -> impl PartialEq {
    let LimitDefaults { algorithm, sub_windows, count_denied, on_store_failure } = written.defaults;
    let quota = written.rate.map(|quota| (quota.requests.value, quota.window.window()));
    let defaults = (value(algorithm), value(sub_windows), value(count_denied), value(on_store_failure));
    (quota, defaults, value(written.burst), written.enforce.value)
}

fn value<V>(located: Option<Located<V>>) -> Option<V> {
    located.map(|located| located.value)
}
