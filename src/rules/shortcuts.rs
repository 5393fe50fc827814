//! The short forms of an API check in a domain: `{"user": "alice"}` and the like, as lists of descriptors' keys. It
//! doesn't know how a check arrives.

#[cfg(test)]
mod tests;

use std::path::Path;

use super::{
    fields::{Located, SHORTCUTS},
    node::{Node, NodeValue},
    pen::NodeReader,
    problem::ProblemCollector,
    spelling::TextOf,
};

/// The keys of one descriptor. The first stands for the user, the second for the endpoint or the action.
type DescriptorKeys = Box<[Box<str>]>;

/// The descriptors of each form. Never empty; each has one key, or two if the form has two values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortcuts {
    pub user: Box<[DescriptorKeys]>,
    pub endpoint: Box<[DescriptorKeys]>,
    pub action: Box<[DescriptorKeys]>,
}

impl Default for Shortcuts {
    fn default() -> Shortcuts {
        let written =
            |keys: &[&str]| -> Box<[DescriptorKeys]> { [keys.iter().map(|key| Box::from(*key)).collect()].into() };
        Shortcuts {
            user: written(&["user"]),
            endpoint: written(&["user", "endpoint"]),
            action: written(&["user", "action"]),
        }
    }
}

impl NodeReader<'_> {
    /// Reads `shortcuts`; a form that isn't named keeps its default.
    pub(super) fn shortcuts(&mut self, node: &Node<'_>) -> Option<Located<Shortcuts>> {
        let fields = self.fields(node, &SHORTCUTS)?;
        let mut value = Shortcuts::default();
        let Shortcuts { user, endpoint, action } = &mut value;
        for (key, written, keys_max) in [("user", user, 1), ("endpoint", endpoint, 2), ("action", action, 2)] {
            if let Some(node) = fields.get(key) {
                *written = self.shortcut(key, node, keys_max)?;
            }
        }
        Some(Located { value, at: node.at })
    }

    /// Reads a list of keys, or a list of such lists for several descriptors.
    fn shortcut(&mut self, written: &str, node: &Node<'_>, keys_max: usize) -> Option<Box<[DescriptorKeys]>> {
        let hint = match keys_max {
            1 => "write the key: `user: [user]`".to_owned(),
            _ => format!("write the keys, the user's first: `{written}: [user, {written}]`, or several such lists"),
        };
        let items = match &node.value {
            NodeValue::List(items) if !items.is_empty() => items,
            _ => {
                self.error(node.at, format!("`{written}` must be a list of keys")).hint(hint);
                return None;
            }
        };
        if !items.iter().all(|item| matches!(item.value, NodeValue::List(_))) {
            return Some([self.keys(written, node, keys_max, &hint)?].into());
        }
        items.iter().map(|item| self.keys(written, item, keys_max, &hint)).collect()
    }

    fn keys(&mut self, written: &str, node: &Node<'_>, keys_max: usize, hint: &str) -> Option<DescriptorKeys> {
        let NodeValue::List(items) = &node.value else {
            self.error(node.at, format!("`{written}` must be a list of keys")).hint(hint);
            return None;
        };
        if items.is_empty() || items.len() > keys_max {
            let what = format!("a descriptor of `{written}` has 1 to {keys_max} keys, not {}", items.len());
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
                key => {
                    self.check_spelling(key, TextOf::ShortcutKey, || item.at);
                    keys.push(key.into());
                }
            }
        }
        Some(keys.into())
    }
}

/// The shortcuts of all files of a domain, which must not differ.
pub(super) fn common<'s>(
    mut located: impl Iterator<Item = (&'s Path, &'s Located<Shortcuts>)>,
    report: &mut ProblemCollector,
) -> Shortcuts {
    let Some((first, shortcuts)) = located.next() else { return Shortcuts::default() };
    for (path, other) in located.filter(|(_, other)| other.value != shortcuts.value) {
        let location = report.elsewhere(first, shortcuts.at);
        report.error(path, other.at, format!("`shortcuts` holds for the whole domain, and differs from {location}"));
    }
    shortcuts.value.clone()
}
