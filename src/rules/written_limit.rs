//! Limits as they are written: one or a list, each in any of its forms, completed by its tier. It knows nothing of
//! descriptors, of where a limit applies, or of the defaults around it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::limit::{Algorithm, CountDenied, EnforcedShare, FailurePolicy, SUB_WINDOWS_MAX};

use super::{
    fields::{BESIDE_UNLIMITED, Fields, LIMIT, Located, MapSchema, REPLACED, nearest},
    node::{Location, Node, NodeValue},
    pen::NodeReader,
    rate::{Rate, WindowSpec, short_rate},
    scalar::Plain,
    spelling::TextOf,
};

/// Limits that one rule may have: each costs every request a counter.
pub(super) const LIMITS_MAX: usize = 32;

/// Values that a limit may leave to the defaults of its domain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LimitDefaults {
    pub(super) algorithm: Option<Located<Algorithm>>,
    pub(super) sub_windows: Option<Located<u8>>,
    pub(super) count_denied: Option<Located<CountDenied>>,
    pub(super) on_store_failure: Option<Located<FailurePolicy>>,
}

/// A limit as it is written.
#[derive(Clone)]
pub(super) struct WrittenLimit {
    pub(super) at: Location,
    /// `None`: unlimited.
    pub(super) rate: Option<Rate>,
    pub(super) defaults: LimitDefaults,
    pub(super) burst: Option<Located<u32>>,
    pub(super) name: Box<str>,
    pub(super) tier: Option<Arc<str>>,
    pub(super) replaces: Vec<Located<Box<str>>>,
    pub(super) enforce: Located<EnforcedShare>,
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
    pub(super) limit: Option<WrittenLimit>,
    pub(super) path: Arc<PathBuf>,
    pub(super) at: Location,
    /// Whether anything refers to it.
    pub(super) is_used: AtomicBool,
}

impl Tiers {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Those that neither a limit nor an override refers to.
    pub(super) fn unused(&self) -> impl Iterator<Item = (&str, &Tier)> {
        let tiers = self.by_name.iter().map(|(name, tier)| (&**name, tier));
        tiers.filter(|(_, tier)| !tier.is_used.load(Relaxed))
    }

    fn names(&self) -> Vec<&str> {
        self.by_name.keys().map(|name| &**name).collect()
    }
}

impl NodeReader<'_> {
    /// Reads one limit or a list of them. All their mistakes are reported; `None` if there are any.
    pub(super) fn written_limits(
        &mut self,
        node: &Node<'_>,
        shape: &MapSchema,
        tiers: &Tiers,
    ) -> Option<Vec<WrittenLimit>> {
        let NodeValue::List(items) = &node.value else {
            return self.written_limit(node, shape, tiers).map(|written| vec![written]);
        };
        let errors = self.report.errors();
        if items.is_empty() {
            self.error(node.at, "this list of limits is empty").hint("write `unlimited` if nothing is to be limited");
        }
        if items.len() > LIMITS_MAX {
            self.error(node.at, format!("{} limits are more than the {LIMITS_MAX} that a rule may have", items.len()));
        }
        let forms: Vec<WrittenLimit> = items.iter().filter_map(|item| self.written_limit(item, shape, tiers)).collect();
        if forms.len() > 1 {
            for written in forms.iter().filter(|written| written.rate.is_none()) {
                self.error(written.at, "`unlimited` beside other limits has no meaning: they all must admit");
            }
            self.check_names(&forms);
        }
        Some(forms).filter(|_| self.report.errors() == errors)
    }

    /// Reads one limit.
    pub(super) fn written_limit(&mut self, node: &Node<'_>, shape: &MapSchema, tiers: &Tiers) -> Option<WrittenLimit> {
        let errors = self.report.errors();
        let written = match &node.value {
            NodeValue::Scalar { .. } => self.short_form(node),
            NodeValue::List(_) => {
                self.error(node.at, "a limit must be a map or text such as `5/s`, not a list");
                None
            }
            NodeValue::Map(_) => self.long_form(node, shape, tiers),
        };
        written.filter(|_| self.report.errors() == errors)
    }

    /// Reports equal names of one rule's limits. Limits are identified by their names, or else by their positions in
    /// the list.
    fn check_names(&mut self, forms: &[WrittenLimit]) {
        for (position, written) in forms.iter().enumerate() {
            let name = name_in_list(written, position);
            let earlier = (0..position).find(|earlier| name_in_list(&forms[*earlier], *earlier) == name);
            if let Some(earlier) = earlier {
                let location = self.beside(forms[earlier].at);
                self.error(written.at, format!("this rule has a limit `{name}` already, in {location}"))
                    .hint("limits of one rule must have different names; one without a name is called by its number");
            }
            if written.replaces.iter().any(|replaced| forms.iter().any(|other| other.name == replaced.value)) {
                self.error(written.at, "a limit can't replace one of its own rule");
            }
        }
    }

    /// What the tier that a limit names says, as if it stood there.
    pub(super) fn tier(&mut self, node: &Node<'_>, tiers: &Tiers) -> Option<WrittenLimit> {
        let name = self.text(node)?;
        if let Some(tier) = tiers.by_name.get(name) {
            tier.is_used.store(true, Relaxed);
            return tier.limit.as_ref().map(|written| written.moved_to(node.at));
        }
        let problem = self.error(node.at, format!("there is no tier `{name}`"));
        match nearest(name, &tiers.names()) {
            Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
            None if tiers.len() == 0 => problem.hint("tiers stand under `tiers`, beside `domain`"),
            None => problem.hint(format!("the domain has {}", tiers.names().join(", "))),
        }
        None
    }

    fn short_form(&mut self, node: &Node<'_>) -> Option<WrittenLimit> {
        let text = self.text(node)?;
        let quota = if text.trim() == "unlimited" {
            None
        } else {
            match short_rate(text) {
                Ok((requests, window)) => Some(Rate {
                    requests: Located { value: requests, at: node.at },
                    window: WindowSpec::Window(window),
                }),
                Err(why) => {
                    self.error(node.at, format!("`{text}` is no limit: {why}"))
                        .hint("write it as `30/5m`, `5/s` or `unlimited`");
                    return None;
                }
            }
        };
        Some(WrittenLimit { rate: quota, ..WrittenLimit::unset(node.at) })
    }

    fn long_form(&mut self, node: &Node<'_>, shape: &MapSchema, tiers: &Tiers) -> Option<WrittenLimit> {
        let fields = self.fields(node, shape)?;
        let base = match fields.get("tier") {
            Some(node) => Some(self.tier(node, tiers)?),
            None => None,
        };
        let name = fields.get("name").and_then(|node| self.text(node)).unwrap_or_default();
        self.check_spelling(name, TextOf::LimitName, || fields.location_of_value("name"));
        let replaces = self.replaces(&fields, name);
        let own = self.limit_defaults(&fields);
        let burst = self.burst(&fields);
        let enforce = fields.get("enforce").and_then(|node| self.enforce(node));
        let unlimited = fields.get("unlimited").and_then(|node| self.boolean(node, "unlimited"));
        let is_tier = base.is_some() && fields.has_only(&["tier", "name", "replaces", "enforce", "on_store_failure"]);
        let of_tier = base.as_ref().and_then(|tier| tier.rate);
        let quota = match (unlimited, &base) {
            (Some(true), _) => {
                self.check_unlimited(&fields);
                None
            }
            (_, Some(tier)) if tier.rate.is_none() && is_tier => None,
            _ => Some(self.rate(&fields, of_tier)?),
        };
        let base = base.unwrap_or_else(|| WrittenLimit::unset(node.at));
        Some(WrittenLimit {
            at: node.at,
            rate: quota,
            defaults: own.or(base.defaults),
            burst: burst.or(base.burst),
            name: name.into(),
            tier: base.tier,
            replaces,
            enforce: enforce.unwrap_or(base.enforce),
            is_checked: is_tier,
        })
    }

    /// The fields of `defaults`, which limits have too.
    pub(super) fn limit_defaults(&mut self, fields: &Fields<'_, '_>) -> LimitDefaults {
        let algorithm = fields.get("algorithm").and_then(|node| {
            let value = self.word(node, "algorithm", &Algorithm::ALL, Algorithm::name)?;
            Some(Located { value, at: node.at })
        });
        let sub_windows = fields.get("sub_windows").and_then(|node| {
            let value = self.number(node, "sub_windows", 1, u32::from(SUB_WINDOWS_MAX))?;
            Some(Located { value: value as u8, at: node.at })
        });
        let count_denied = fields.get("count_denied").and_then(|node| {
            let value = self.count_denied(node)?;
            Some(Located { value, at: node.at })
        });
        let on_store_failure = self.on_store_failure(fields);
        LimitDefaults { algorithm, sub_windows, count_denied, on_store_failure }
    }

    pub(super) fn on_store_failure(&mut self, fields: &Fields<'_, '_>) -> Option<Located<FailurePolicy>> {
        let node = fields.get("on_store_failure")?;
        let value = self.word(node, "on_store_failure", &FailurePolicy::ALL, FailurePolicy::name)?;
        Some(Located { value, at: node.at })
    }

    fn count_denied(&mut self, node: &Node<'_>) -> Option<CountDenied> {
        let located = match &node.value {
            NodeValue::Scalar { text, plain } => {
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
        self.error(node.at, format!("`count_denied` must be auto, reported, true or false, not {located}"));
        None
    }

    /// `true`, `false`, or a share of clients such as `10%`.
    fn enforce(&mut self, node: &Node<'_>) -> Option<Located<EnforcedShare>> {
        let (written, why) = match &node.value {
            NodeValue::Scalar { text, plain } => {
                if let (true, Plain::Bool(enforce)) = (*plain, Plain::of(text)) {
                    return Some(Located { value: EnforcedShare::of_bool(enforce), at: node.at });
                }
                match EnforcedShare::parse(text) {
                    Ok(value) => return Some(Located { value, at: node.at }),
                    Err(why) => (format!("`{text}`"), Some(why)),
                }
            }
            _ => (node.kind().to_owned(), None),
        };
        let what = format!("`enforce` must be true, false or a share of clients such as 10%, not {written}");
        let problem = self.error(node.at, what);
        if let Some(why) = why {
            problem.hint(why);
        }
        None
    }

    fn burst(&mut self, fields: &Fields<'_, '_>) -> Option<Located<u32>> {
        let key = fields.first_of(&["burst", "capacity"])?;
        if key == "burst" && fields.get("capacity").is_some() {
            self.error(fields.location("capacity"), "`capacity` is another word for `burst`: write one of them");
        }
        let node = fields.get(key)?;
        Some(Located { value: self.number(node, key, 1, u32::MAX)?, at: node.at })
    }

    fn replaces(&mut self, fields: &Fields<'_, '_>, own: &str) -> Vec<Located<Box<str>>> {
        let Some(node) = fields.get("replaces") else { return Vec::new() };
        let NodeValue::List(items) = &node.value else {
            self.error(node.at, format!("`replaces` must be a list, not {}", node.kind()))
                .hint("write it as `replaces: [{name: other}]`");
            return Vec::new();
        };
        let mut names = Vec::new();
        for item in items.iter() {
            let Some(replaced) = self.fields(item, &REPLACED) else { continue };
            let name = replaced.get("name").map_or(Some(""), |node| self.text(node));
            let at = replaced.location("name");
            match name {
                None => {}
                Some("") => drop(self.error(at, "an entry of `replaces` must have a name")),
                Some(name) if name == own => drop(self.error(at, format!("limit `{own}` can't replace itself"))),
                Some(name) => {
                    let at = replaced.location_of_value("name");
                    self.check_spelling(name, TextOf::ReplacedName, || at);
                    names.push(Located { value: name.into(), at });
                }
            }
        }
        names
    }

    fn check_unlimited(&mut self, fields: &Fields<'_, '_>) {
        for key in LIMIT.keys.iter().filter(|key| !BESIDE_UNLIMITED.contains(key)) {
            if fields.get(key).is_some() {
                self.error(fields.location(key), format!("`{key}` has no meaning where `unlimited` is true"));
            }
        }
    }
}

impl WrittenLimit {
    /// What is left out everywhere.
    fn unset(at: Location) -> WrittenLimit {
        WrittenLimit {
            at,
            rate: None,
            defaults: LimitDefaults::default(),
            burst: None,
            name: Box::default(),
            tier: None,
            replaces: Vec::new(),
            enforce: Located { value: EnforcedShare::ALL, at },
            is_checked: false,
        }
    }
}

impl WrittenLimit {
    fn moved_to(&self, at: Location) -> WrittenLimit {
        fn moved<V: Copy>(located: Option<Located<V>>, at: Location) -> Option<Located<V>> {
            located.map(|located| Located { at, ..located })
        }
        let LimitDefaults { algorithm, sub_windows, count_denied, on_store_failure } = self.defaults;
        WrittenLimit {
            at,
            rate: self.rate.map(|quota| Rate { requests: Located { at, ..quota.requests }, ..quota }),
            defaults: LimitDefaults {
                algorithm: moved(algorithm, at),
                sub_windows: moved(sub_windows, at),
                count_denied: moved(count_denied, at),
                on_store_failure: moved(on_store_failure, at),
            },
            burst: moved(self.burst, at),
            enforce: Located { at, ..self.enforce },
            ..self.clone()
        }
    }
}

impl LimitDefaults {
    fn or(self, other: LimitDefaults) -> LimitDefaults {
        LimitDefaults {
            algorithm: self.algorithm.or(other.algorithm),
            sub_windows: self.sub_windows.or(other.sub_windows),
            count_denied: self.count_denied.or(other.count_denied),
            on_store_failure: self.on_store_failure.or(other.on_store_failure),
        }
    }
}

/// What a limit is called among several: its name, else its place in the list, from 1.
pub(super) fn name_in_list(written: &WrittenLimit, position: usize) -> Cow<'_, str> {
    match &*written.name {
        "" => Cow::Owned((position + 1).to_string()),
        name => Cow::Borrowed(name),
    }
}
