//! The short forms of an API check in a domain: `{"user": "alice"}` and the like, as lists of descriptors' keys. It
//! doesn't know how a check arrives.

#[cfg(test)]
mod tests;

use std::path::Path;

use super::{
    fields::{SHORTCUTS, Said},
    node::{Node, Value},
    pen::Pen,
    problem::Report,
};

/// The keys of one descriptor. The first stands for the user, the second for the endpoint or the action.
type Keys = Box<[Box<str>]>;

/// The descriptors of each form. Never empty; each has one key, or two if the form has two values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortcuts {
    pub user: Box<[Keys]>,
    pub endpoint: Box<[Keys]>,
    pub action: Box<[Keys]>,
}

impl Default for Shortcuts {
    fn default() -> Shortcuts {
        let form = |keys: &[&str]| -> Box<[Keys]> { [keys.iter().map(|key| Box::from(*key)).collect()].into() };
        Shortcuts { user: form(&["user"]), endpoint: form(&["user", "endpoint"]), action: form(&["user", "action"]) }
    }
}

impl Pen<'_> {
    /// Reads `shortcuts`; a form that isn't named keeps its default.
    pub(super) fn shortcuts(&mut self, node: &Node<'_>) -> Option<Said<Shortcuts>> {
        let fields = self.fields(node, &SHORTCUTS)?;
        let mut value = Shortcuts::default();
        let Shortcuts { user, endpoint, action } = &mut value;
        for (key, form, keys_max) in [("user", user, 1), ("endpoint", endpoint, 2), ("action", action, 2)] {
            if let Some(node) = fields.get(key) {
                *form = self.shortcut(key, node, keys_max)?;
            }
        }
        Some(Said { value, at: node.at })
    }

    /// Reads a list of keys, or a list of such lists for several descriptors.
    fn shortcut(&mut self, form: &str, node: &Node<'_>, keys_max: usize) -> Option<Box<[Keys]>> {
        let hint = match keys_max {
            1 => "write the key: `user: [user]`".to_owned(),
            _ => format!("write the keys, the user's first: `{form}: [user, {form}]`, or several such lists"),
        };
        let items = match &node.value {
            Value::List(items) if !items.is_empty() => items,
            _ => {
                self.error(node.at, format!("`{form}` must be a list of keys")).hint(hint);
                return None;
            }
        };
        if !items.iter().all(|item| matches!(item.value, Value::List(_))) {
            return Some([self.keys(form, node, keys_max, &hint)?].into());
        }
        items.iter().map(|item| self.keys(form, item, keys_max, &hint)).collect()
    }

    fn keys(&mut self, form: &str, node: &Node<'_>, keys_max: usize, hint: &str) -> Option<Keys> {
        let Value::List(items) = &node.value else {
            self.error(node.at, format!("`{form}` must be a list of keys")).hint(hint);
            return None;
        };
        if items.is_empty() || items.len() > keys_max {
            let what = format!("a descriptor of `{form}` has 1 to {keys_max} keys, not {}", items.len());
            self.error(node.at, what).hint(hint);
            return None;
        }
        let mut keys = Vec::new();
        for item in items.iter() {
            match self.text(item)? {
                "" => {
                    self.error(item.at, "a key must not be empty");
                    return None;
                }
                key => keys.push(key.into()),
            }
        }
        Some(keys.into())
    }
}

/// The shortcuts of all files of a domain, which must not differ.
pub(super) fn common<'s>(
    mut said: impl Iterator<Item = (&'s Path, &'s Said<Shortcuts>)>,
    report: &mut Report,
) -> Shortcuts {
    let Some((first, shortcuts)) = said.next() else { return Shortcuts::default() };
    for (path, other) in said.filter(|(_, other)| other.value != shortcuts.value) {
        let place = report.elsewhere(first, shortcuts.at);
        report.error(path, other.at, format!("`shortcuts` holds for the whole domain, and differs from {place}"));
    }
    shortcuts.value.clone()
}
