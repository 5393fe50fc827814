//! The defaults of domains and their shortcuts: what holds in each, wherever it was said.

use super::{Domain, Rules, SettingChange, domains, note};
use crate::{
    limit::SUB_WINDOWS_DEFAULT,
    rules::{Shortcuts, fields::Located},
};

pub(super) fn changes(before: &Rules, after: &Rules) -> Vec<SettingChange> {
    let mut changes = Vec::new();
    for (old, new) in domains(before, after) {
        if let (Some(old), Some(new)) = (old, new) {
            for ((what, before), (_, after)) in settings(old).into_iter().zip(settings(new)) {
                note(&mut changes, new.name(), what, before, after);
            }
        }
    }
    changes
}

fn settings(domain: &Domain) -> [(&'static str, String); 7] {
    let (own, process) = (&domain.defaults.limits, &domain.defaults.process);
    let algorithm = own.algorithm.map_or(process.algorithm, value);
    let count_denied = own.count_denied.map_or(process.count_denied, value);
    let policy = own.on_store_failure.map_or("as the process says", |policy| policy.value.name());
    let Shortcuts { user, endpoint, action } = &domain.shortcuts;
    let shortcut = |lists: &[Box<[Box<str>]>]| {
        let lists: Vec<String> = lists.iter().map(|keys| format!("[{}]", keys.join(", "))).collect();
        lists.join(", ")
    };
    [
        ("default algorithm", algorithm.name().to_owned()),
        ("default sub_windows", own.sub_windows.map_or(SUB_WINDOWS_DEFAULT, value).to_string()),
        ("default count_denied", count_denied.name().to_owned()),
        ("default on_store_failure", policy.to_owned()),
        ("shortcut user", shortcut(user)),
        ("shortcut endpoint", shortcut(endpoint)),
        ("shortcut action", shortcut(action)),
    ]
}

fn value<V>(located: Located<V>) -> V {
    located.value
}
