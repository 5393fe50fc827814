//! Limits as they are written: one or a list, each in any of its forms, completed by its tier. It knows nothing of
//! descriptors, of where a limit applies, or of the defaults around it.

use std::{borrow::Cow, collections::BTreeMap, path::PathBuf, sync::Arc};

use crate::limit::{Algorithm, CountDenied, FailurePolicy, SUB_WINDOWS_MAX};

use super::{
    fields::{BESIDE_UNLIMITED, Fields, LIMIT, REPLACED, Said, Shape, nearest},
    node::{Node, Place, Value},
    pen::Pen,
    quota::{Quota, Span, short_quota},
    scalar::Plain,
};

/// Limits that one rule may have: each costs every request a counter.
pub(super) const LIMITS_MAX: usize = 32;

/// Values that a limit may leave to the defaults of its domain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    pub(super) algorithm: Option<Said<Algorithm>>,
    pub(super) sub_windows: Option<Said<u8>>,
    pub(super) count_denied: Option<Said<CountDenied>>,
    pub(super) on_store_failure: Option<Said<FailurePolicy>>,
}

/// A limit as it is written.
#[derive(Clone)]
pub(super) struct Form {
    pub(super) at: Place,
    /// `None`: unlimited.
    pub(super) quota: Option<Quota>,
    pub(super) manner: Manner,
    pub(super) burst: Option<Said<u32>>,
    pub(super) name: Box<str>,
    pub(super) tier: Option<Arc<str>>,
    pub(super) replaces: Vec<Box<str>>,
    pub(super) enforce: bool,
    /// It is a tier as that stands, and was checked there.
    pub(super) is_checked: bool,
}

/// The tiers of a domain, by name: what its limits may refer to.
#[derive(Default)]
pub(super) struct Tiers {
    pub(super) by_name: BTreeMap<Box<str>, Tier>,
}

/// A limit that others refer to, and where it stands.
pub(super) struct Tier {
    /// `None`: it has a mistake, which is reported.
    pub(super) form: Option<Form>,
    pub(super) path: Arc<PathBuf>,
    pub(super) at: Place,
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
    /// Reads one limit or a list of them. All their mistakes are reported; `None` if there are any.
    pub(super) fn forms(&mut self, node: &Node<'_>, shape: &Shape, tiers: &Tiers) -> Option<Vec<Form>> {
        let Value::List(items) = &node.value else { return self.form(node, shape, tiers).map(|form| vec![form]) };
        let errors = self.report.errors();
        if items.is_empty() {
            self.error(node.at, "this list of limits is empty").hint("write `unlimited` if nothing is to be limited");
        }
        if items.len() > LIMITS_MAX {
            self.error(node.at, format!("{} limits are more than the {LIMITS_MAX} that a rule may have", items.len()));
        }
        let forms: Vec<Form> = items.iter().filter_map(|item| self.form(item, shape, tiers)).collect();
        if forms.len() > 1 {
            for form in forms.iter().filter(|form| form.quota.is_none()) {
                self.error(form.at, "`unlimited` beside other limits has no meaning: they all must admit");
            }
            self.check_names(&forms);
        }
        Some(forms).filter(|_| self.report.errors() == errors)
    }

    /// Reads one limit.
    pub(super) fn form(&mut self, node: &Node<'_>, shape: &Shape, tiers: &Tiers) -> Option<Form> {
        let errors = self.report.errors();
        let form = match &node.value {
            Value::Scalar { .. } => self.short_form(node),
            Value::List(_) => {
                self.error(node.at, "a limit must be a map or text such as `5/s`, not a list");
                None
            }
            Value::Map(_) => self.long_form(node, shape, tiers),
        };
        form.filter(|_| self.report.errors() == errors)
    }

    /// Reports equal names of one rule's limits. Limits are identified by their names, or else by their positions in
    /// the list.
    fn check_names(&mut self, forms: &[Form]) {
        for (position, form) in forms.iter().enumerate() {
            let name = name_in_list(form, position);
            let earlier = (0..position).find(|earlier| name_in_list(&forms[*earlier], *earlier) == name);
            if let Some(earlier) = earlier {
                let place = self.beside(forms[earlier].at);
                self.error(form.at, format!("this rule has a limit `{name}` already, in {place}"))
                    .hint("limits of one rule must have different names; one without a name is called by its number");
            }
            if form.replaces.iter().any(|replaced| forms.iter().any(|other| other.name == *replaced)) {
                self.error(form.at, "a limit can't replace one of its own rule");
            }
        }
    }

    /// What the tier that a limit names says, as if it stood there.
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

    fn short_form(&mut self, node: &Node<'_>) -> Option<Form> {
        let text = self.text(node)?;
        let quota = if text.trim() == "unlimited" {
            None
        } else {
            match short_quota(text) {
                Ok((requests, window)) => {
                    Some(Quota { requests: Said { value: requests, at: node.at }, span: Span::Window(window) })
                }
                Err(why) => {
                    self.error(node.at, format!("`{text}` is no limit: {why}"))
                        .hint("write it as `30/5m`, `5/s` or `unlimited`");
                    return None;
                }
            }
        };
        Some(Form { quota, ..Form::of_nothing(node.at) })
    }

    fn long_form(&mut self, node: &Node<'_>, shape: &Shape, tiers: &Tiers) -> Option<Form> {
        let fields = self.fields(node, shape)?;
        let base = match fields.get("tier") {
            Some(node) => Some(self.tier(node, tiers)?),
            None => None,
        };
        let name = fields.get("name").and_then(|node| self.text(node)).unwrap_or_default();
        let replaces = self.replaces(&fields, name);
        let own = self.manner(&fields);
        let burst = self.burst(&fields);
        let enforce = fields.get("enforce").and_then(|node| self.boolean(node, "enforce"));
        let unlimited = fields.get("unlimited").and_then(|node| self.boolean(node, "unlimited"));
        let is_tier = base.is_some() && fields.has_only(&["tier", "name", "replaces", "enforce", "on_store_failure"]);
        let of_tier = base.as_ref().and_then(|tier| tier.quota);
        let quota = match (unlimited, &base) {
            (Some(true), _) => {
                self.check_unlimited(&fields);
                None
            }
            (_, Some(tier)) if tier.quota.is_none() && is_tier => None,
            _ => Some(self.quota(&fields, of_tier)?),
        };
        let base = base.unwrap_or_else(|| Form::of_nothing(node.at));
        Some(Form {
            at: node.at,
            quota,
            manner: own.or(base.manner),
            burst: burst.or(base.burst),
            name: name.into(),
            tier: base.tier,
            replaces,
            enforce: enforce.unwrap_or(base.enforce),
            is_checked: is_tier,
        })
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
        let said = match &node.value {
            Value::Scalar { text, plain } => {
                let truth = if *plain { Plain::of(text) } else { Plain::Text };
                match (&**text, truth) {
                    ("auto", _) => return Some(CountDenied::Auto),
                    ("reported", _) => return Some(CountDenied::Reported),
                    (_, Plain::Bool(true)) => return Some(CountDenied::Always),
                    (_, Plain::Bool(false)) => return Some(CountDenied::Never),
                    _ => format!("`{text}`"),
                }
            }
            _ => node.kind().to_owned(),
        };
        self.error(node.at, format!("`count_denied` must be auto, reported, true or false, not {said}"));
        None
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
        for key in LIMIT.keys.iter().filter(|key| !BESIDE_UNLIMITED.contains(key)) {
            if fields.get(key).is_some() {
                self.error(fields.place(key), format!("`{key}` has no meaning where `unlimited` is true"));
            }
        }
    }
}

impl Form {
    /// What is left out everywhere.
    fn of_nothing(at: Place) -> Form {
        Form {
            at,
            quota: None,
            manner: Manner::default(),
            burst: None,
            name: Box::default(),
            tier: None,
            replaces: Vec::new(),
            enforce: true,
            is_checked: false,
        }
    }
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

impl Manner {
    fn or(self, other: Manner) -> Manner {
        Manner {
            algorithm: self.algorithm.or(other.algorithm),
            sub_windows: self.sub_windows.or(other.sub_windows),
            count_denied: self.count_denied.or(other.count_denied),
            on_store_failure: self.on_store_failure.or(other.on_store_failure),
        }
    }
}

/// What a limit is called among several: its name, else its place in the list, from 1.
pub(super) fn name_in_list(form: &Form, position: usize) -> Cow<'_, str> {
    match &*form.name {
        "" => Cow::Owned((position + 1).to_string()),
        name => Cow::Borrowed(name),
    }
}
