//! Switches: setting, restoring and listing them for the calls. Which limits a switch is for is looked up in the rules in
//! force; what it does to them is the limiter's. Knows nothing of gRPC or HTTP.

use std::{sync::Arc, time::Duration};

use super::{
    Api, ApiError, Caller, Confirmation, LimitNumbers, LimitSwitch, ListSwitchesResponse, RestoreLimitRequest,
    RestoreLimitResponse, SetSwitchRequest, SetSwitchResponse, SwitchedLimit, bounds, overrides,
};
use crate::{
    clock,
    limit::{EnforcedShare, Micros, UnixMicros, moment},
    limiter::Snapshot,
    rules::{self, Domain, Rule, RuleLimit, domain_prefix},
    run_time::{
        RunTime,
        fleet::{self, ReplicaRecord},
        overrides::{ChangeRequest, Condition, OverridesError},
        switches::{self, ALL, Switch, SwitchMode},
    },
    store::StoreError,
};

/// How long a change waits for every replica to confirm it.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(2);

/// How long a switch may last: a longer one belongs into the rules.
const LASTS_MAX: Micros = Micros(30 * 86_400 * 1_000_000);

/// How long a switch of one replica may last.
const LASTS_HERE_MAX: Micros = Micros(3_600 * 1_000_000);

/// The limits that a switch is for.
struct Target<'r> {
    /// The id of a limit or a rule, or [`ALL`].
    id: String,
    limits: Vec<(&'r Rule, &'r RuleLimit)>,
}

/// Sets a switch. The caller may, and the domain is loaded.
pub(super) async fn set(
    api: &Api,
    snapshot: &Snapshot,
    caller: &Caller,
    request: SetSwitchRequest,
) -> Result<SetSwitchResponse, ApiError> {
    let run_time = overrides::run_time(api)?;
    let SetSwitchRequest { domain, limit_id, all, mode, factor, share, r#for, ends, reason, dry_run, this_replica } =
        request;
    let share = Some(&*share).filter(|share| !share.is_empty());
    let hint = "send off, shadow, scale with a factor such as 3, or enforce with a share such as 10%";
    let mode = SwitchMode::parse(&mode, factor, share).map_err(|what| ApiError::invalid("mode", what, hint))?;
    let now = clock::now();
    let wall = run_time.overrides.wall(now);
    let ends = end(&r#for, &ends, wall, if this_replica { LASTS_HERE_MAX } else { LASTS_MAX })?;
    require_reason(&reason)?;
    let rules = loaded(snapshot, &domain)?;
    let target = Target::of(rules, &limit_id, all)?;
    target.check(mode)?;
    let by = caller.name.as_ref().into();
    let switch =
        Switch { target: target.id.clone().into(), mode, ends, reason: reason.into(), by, at: wall, version: 0 };
    let known = run_time.overrides.switches(&domain);
    let replaced = known.get(&target.id).filter(|known| wall < known.ends).cloned();
    let is_here = replaced.is_some() && run_time.overrides.is_switched_here(&domain, &target.id);
    let mut answer = SetSwitchResponse {
        saved: Some(shown(rules, &switch, this_replica)),
        replaced: replaced.map(|replaced| shown(rules, &replaced, is_here)),
        limits: target
            .limits
            .iter()
            .map(|(rule, limit)| {
                let kept_by = known.of(&limit.id, &rule.id, || wall).filter(|holds| target.is_narrowed_by(holds));
                changed(&target, rule, limit, (Some(mode), kept_by.map(|holds| &*holds.target)))
            })
            .collect(),
        in_force: None,
    };
    if this_replica {
        require_outage(api, run_time).await?;
    }
    if dry_run {
        return Ok(answer);
    }
    if this_replica {
        run_time.overrides.switch_here(&domain, &target.id, Some(switch.clone()));
        log_here(&domain, &switch.target, &switch.mode.to_string(), &switch.reason, caller);
        run_time.fleet.beat_soon();
        answer.in_force = Some(Confirmation { replicas: 1, in_force: 1, ..Confirmation::default() });
        return Ok(answer);
    }
    answer.in_force = Some(store(run_time, (&domain, &target.id), Some(&switch), (caller, &switch.reason)).await?);
    Ok(answer)
}

/// Takes a switch back. The caller may, and the domain is loaded.
pub(super) async fn restore(
    api: &Api,
    snapshot: &Snapshot,
    caller: &Caller,
    request: RestoreLimitRequest,
) -> Result<RestoreLimitResponse, ApiError> {
    let run_time = overrides::run_time(api)?;
    let RestoreLimitRequest { domain, limit_id, all, reason, dry_run, this_replica } = request;
    require_reason(&reason)?;
    let rules = loaded(snapshot, &domain)?;
    let known = run_time.overrides.switches(&domain);
    // A switch can be taken back whose limit has left the rules since.
    let target = Target::of(rules, &limit_id, all).or_else(|error| match known.get(&prefixed(rules, &limit_id)) {
        Some(switch) => Ok(Target { id: switch.target.to_string(), limits: Vec::new() }),
        None => Err(error),
    })?;
    let missing = || ApiError::NotFound(format!("`{}` isn't switched", bounds::shown(&target.id)));
    let switch = known.get(&target.id).ok_or_else(missing)?;
    let is_here = run_time.overrides.is_switched_here(&domain, &target.id);
    let mut answer = RestoreLimitResponse {
        restored: Some(shown(rules, switch, is_here)),
        limits: target.limits.iter().map(|(rule, limit)| changed(&target, rule, limit, (None, None))).collect(),
        in_force: None,
    };
    if this_replica && !is_here {
        return Err(missing());
    }
    if dry_run {
        return Ok(answer);
    }
    if is_here {
        run_time.overrides.switch_here(&domain, &target.id, None);
        log_here(&domain, &target.id, "restore", &reason, caller);
        run_time.fleet.beat_soon();
        answer.in_force = Some(Confirmation { replicas: 1, in_force: 1, ..Confirmation::default() });
        return Ok(answer);
    }
    answer.in_force = Some(store(run_time, (&domain, &target.id), None, (caller, &reason)).await?);
    Ok(answer)
}

/// Stores a target's switch, or with `None` takes it back, and waits for the replicas to confirm.
async fn store(
    run_time: &RunTime,
    (domain, target): (&str, &str),
    switch: Option<&Switch>,
    (caller, reason): (&Caller, &str),
) -> Result<Confirmation, ApiError> {
    let (id, token, record) = (switches::stored_id(target), &*caller.name, switch.map(Switch::write));
    let change =
        ChangeRequest { domain, id: &id, record: record.as_deref(), condition: Condition::None, token, reason };
    let written = run_time.overrides.write(&change, clock::now()).await.map_err(unwritten)?;
    let knows: fn(&ReplicaRecord) -> bool = match switch.map(|switch| switch.mode) {
        Some(SwitchMode::Enforce(_)) => |record| record.knows_shares,
        _ => ReplicaRecord::knows_switches,
    };
    Ok(confirmed(run_time, (domain, written.version), knows).await)
}

/// Why it couldn't be stored: where Redis is away there is another way.
fn unwritten(error: OverridesError) -> ApiError {
    match error {
        OverridesError::Store(StoreError::Timeout(_) | StoreError::Refused(_)) => error.into(),
        OverridesError::Store(_) => ApiError::Unavailable(
            "Redis can't be reached: nothing was changed; until it can, --this-replica (`this_replica`) switches the \
             replica that is asked"
                .into(),
        ),
        _ => error.into(),
    }
}

/// What is switched in these `domains` (`None` is all) and hasn't ended.
pub(super) fn list(api: &Api, snapshot: &Snapshot, domains: Option<&[&str]>) -> Result<ListSwitchesResponse, ApiError> {
    let run_time = overrides::run_time(api)?;
    let wall = run_time.overrides.wall(clock::now());
    let is_meant = |domain: &&Arc<Domain>| domains.is_none_or(|domains| domains.contains(&domain.name()));
    let mut switches = Vec::new();
    for rules in snapshot.rules.domains().iter().filter(is_meant) {
        let known = run_time.overrides.switches(rules.name());
        let living = known.iter().filter(|switch| wall < switch.ends);
        switches.extend(
            living
                .map(|switch| shown(rules, switch, run_time.overrides.is_switched_here(rules.name(), &switch.target))),
        );
    }
    Ok(ListSwitchesResponse { switches })
}

impl<'r> Target<'r> {
    fn of(rules: &'r Domain, limit_id: &str, all: bool) -> Result<Target<'r>, ApiError> {
        let limits = || rules.rules().iter().flat_map(|rule| rule.limits.iter().map(move |limit| (rule, limit)));
        match (limit_id, all) {
            ("", true) => Ok(Target { id: ALL.to_owned(), limits: limits().collect() }),
            ("", false) => {
                Err(ApiError::invalid("limit_id", "it says no limit", "send the id of a limit, or all: true"))
            }
            (_, true) => {
                Err(ApiError::invalid("all", "`limit_id` and `all` both say which limits", "send one of them"))
            }
            (named, false) => {
                bounds::check_value("limit_id", named)?;
                let id = prefixed(rules, named);
                let found: Vec<_> = limits().filter(|(rule, limit)| *limit.id == *id || *rule.id == *id).collect();
                if found.is_empty() && id != requested(rules) {
                    return Err(unknown(rules, &id));
                }
                Ok(Target { id, limits: found })
            }
        }
    }

    /// Whether a switch is for fewer limits than this, and so comes first.
    fn is_narrowed_by(&self, switch: &Switch) -> bool {
        let is_wider = self.id == ALL || self.limits.iter().all(|(rule, _)| *rule.id == *self.id);
        is_wider && *switch.target != *self.id && !switch.is_for_all()
    }

    /// Whether every limit can be changed so. A switch of the whole domain leaves protected ones as they are.
    fn check(&self, mode: SwitchMode) -> Result<(), ApiError> {
        let changeable = || self.limits.iter().filter(|(rule, _)| rule.switchable);
        if let Some((rule, limit)) = self.limits.iter().find(|(rule, _)| !rule.switchable && self.id != ALL) {
            let what = format!("`{}` is protected: its rule says `switchable: false` ({})", limit.id, place(rule));
            return Err(ApiError::invalid("limit_id", what, "change the rule, or take that line out"));
        }
        if mode.share().is_some_and(EnforcedShare::is_partial) {
            return self.check_share();
        }
        let Some(factor) = mode.factor() else { return Ok(()) };
        let why = changeable().find_map(|(_, limit)| Some((limit, switches::unscalable(&limit.limit, factor)?)));
        match why {
            None => Ok(()),
            Some((limit, why)) => {
                let what = format!("`{}` can't be scaled so: {why}", limit.id);
                Err(ApiError::invalid("factor", what, "send a smaller factor, or switch it to shadow"))
            }
        }
    }
}

impl Target<'_> {
    /// Whether clients of every limit can be told apart: of others it would be all or nothing.
    fn check_share(&self) -> Result<(), ApiError> {
        let is_shared =
            |(rule, _): &&(&Rule, &RuleLimit)| rule.switchable && rule.client_position(&rule.shared).is_none();
        let hint = "send enforce with 100%, or shadow; or name limits whose rules have a key without a value or with a \
                    pattern, and no share_threshold";
        if let Some((_, limit)) = self.limits.iter().find(is_shared) {
            let what = format!("`{}` would be all or nothing: all clients share its counter", limit.id);
            return Err(ApiError::invalid("share", what, hint));
        }
        // A limit that comes with requests has no rule that says who is a client.
        if self.limits.is_empty() {
            let what = format!("of `{}` no rule says which entry tells clients apart", self.id);
            return Err(ApiError::invalid("share", what, hint));
        }
        Ok(())
    }
}

fn loaded<'r>(snapshot: &'r Snapshot, domain: &str) -> Result<&'r Arc<Domain>, ApiError> {
    let index = snapshot.rules.domain(domain).ok_or_else(|| ApiError::NotFound(domain.to_owned()))?;
    Ok(snapshot.rules.of(index))
}

/// The id with its domain, which may be left out.
fn prefixed(rules: &Domain, id: &str) -> String {
    let prefix = domain_prefix(rules.name());
    if id.starts_with(&prefix) { id.to_owned() } else { format!("{prefix}{id}") }
}

fn requested(rules: &Domain) -> String {
    crate::metrics::requested_id(rules.name())
}

fn unknown(rules: &Domain, id: &str) -> ApiError {
    let known = rules.rules().iter().flat_map(|rule| rule.limits.iter()).map(|limit| &*limit.id);
    let likely = known.map(|known| (strsim::osa_distance(known, id), known)).min();
    let hint = match likely {
        Some((changes, known)) if changes <= id.len() / 3 => format!("did you mean `{known}`?"),
        _ => "the admin listener's /rules lists the limits".to_owned(),
    };
    let what = format!("no rule of domain `{}` has a limit `{}`", rules.name(), bounds::shown(id));
    ApiError::invalid("limit_id", what, hint)
}

/// The moment that one of `for` and `ends` says.
fn end(lasts: &str, ends: &str, wall: UnixMicros, longest: Micros) -> Result<UnixMicros, ApiError> {
    let at = match (lasts, ends) {
        ("", "") => {
            let hint = "such as \"for\": \"1h\"";
            return Err(ApiError::invalid("for", "a switch must end by itself: it says no end", hint));
        }
        (_, "") => {
            let wrong = |why| ApiError::invalid("for", why, "write it as `30m`, `4h` or `7d`");
            let Micros(lasts) = rules::duration(lasts).map_err(wrong)?;
            UnixMicros(wall.0.saturating_add(lasts))
        }
        ("", ends) => moment::parse(ends)
            .map_err(|why| ApiError::invalid("ends", format!("`{}`: {why}", bounds::shown(ends)), "or send `for`"))?,
        _ => return Err(ApiError::invalid("for", "`for` and `ends` both say when it ends", "send one of them")),
    };
    let field = if lasts.is_empty() { "ends" } else { "for" };
    if at <= wall {
        return Err(ApiError::invalid(field, "it would have ended already", "send a later moment"));
    }
    if at.0 - wall.0 > longest.0 {
        let what = format!("a switch lasts {} at most", moment_words(longest));
        let hint = "what is to stay belongs into the rules: `tollgate limits list --patch` prints the change";
        return Err(ApiError::invalid(field, what, hint));
    }
    Ok(at)
}

fn moment_words(length: Micros) -> &'static str {
    if length == LASTS_HERE_MAX { "an hour on one replica" } else { "30 days" }
}

fn require_reason(reason: &str) -> Result<(), ApiError> {
    bounds::check_words("reason", reason)?;
    if reason.trim().is_empty() {
        let hint = "say why, such as a ticket: whoever wonders about the limit reads it";
        return Err(ApiError::invalid("reason", "there is no reason", hint));
    }
    Ok(())
}

/// One replica is only switched by itself while the others can't be told.
async fn require_outage(api: &Api, run_time: &RunTime) -> Result<(), ApiError> {
    let metrics = api.limiter.metrics();
    let is_missed = || !metrics.stores_answer() || metrics.breakers_open() > 0;
    // Where few requests come, nothing has been missed yet.
    if api.limiter.is_remote() && (is_missed() || !run_time.fleet.is_reached().await) {
        return Ok(());
    }
    let what = "Redis can be reached, so that every replica can be switched";
    Err(ApiError::invalid("this_replica", what, "leave `this_replica` out"))
}

fn log_here(domain: &str, target: &str, mode: &str, reason: &str, caller: &Caller) {
    let token = &*caller.name;
    tracing::warn!(token, domain, limit = target, mode, reason, "this replica alone was switched");
}

async fn confirmed(run_time: &RunTime, write: (&str, u64), knows: fn(&ReplicaRecord) -> bool) -> Confirmation {
    let fleet::Confirmation { replicas, in_force, missing, partial } =
        run_time.fleet.confirmed(write, knows, CONFIRMED_WITHIN).await;
    Confirmation {
        replicas: replicas as u32,
        in_force: in_force as u32,
        missing: missing.into_iter().map(Into::into).collect(),
        partial: partial.map(Into::into).unwrap_or_default(),
    }
}

/// A switch as answers show it.
pub(super) fn shown(rules: &Domain, switch: &Switch, this_replica: bool) -> LimitSwitch {
    let mut warnings = Vec::new();
    let is_there = switch.is_for_all()
        || *switch.target == *requested(rules)
        || rules
            .rules()
            .iter()
            .any(|rule| *rule.id == *switch.target || rule.limits.iter().any(|limit| *limit.id == *switch.target));
    if !is_there {
        warnings.push("no rule has this limit any more: the switch has no effect".to_owned());
    }
    LimitSwitch {
        domain: rules.name().to_owned(),
        limit_id: if switch.is_for_all() { String::new() } else { switch.target.to_string() },
        all: switch.is_for_all(),
        mode: switch.mode.name().to_owned(),
        factor: switch.mode.factor(),
        share: switch.mode.share().map(|share| share.to_string()).unwrap_or_default(),
        ends: moment::write(switch.ends),
        reason: switch.reason.to_string(),
        by: switch.by.to_string(),
        at: moment::write(switch.at),
        this_replica,
        warnings,
    }
}

/// A limit without a switch, and with this one; `None` for none. One that is switched by itself stays as it is.
fn changed(
    target: &Target<'_>,
    rule: &Rule,
    limit: &RuleLimit,
    (mode, kept_by): (Option<SwitchMode>, Option<&str>),
) -> SwitchedLimit {
    let is_protected = target.id == ALL && !rule.switchable;
    let before = numbers(limit, rule);
    let after = match mode.filter(|_| !is_protected && kept_by.is_none()) {
        None => Some(before.clone()),
        Some(SwitchMode::Off) => None,
        Some(SwitchMode::Shadow) => Some(enforced(before.clone(), EnforcedShare::NONE)),
        Some(SwitchMode::Enforce(share)) => Some(enforced(before.clone(), share)),
        Some(SwitchMode::Scale(factor)) => {
            let scaled = RuleLimit { limit: switches::scaled(limit.limit, factor), ..limit.clone() };
            Some(numbers(&scaled, rule))
        }
    };
    SwitchedLimit {
        limit_id: limit.id.to_string(),
        before: Some(before),
        after,
        protected: is_protected,
        place: place(rule),
        kept_by: kept_by.filter(|_| !is_protected).unwrap_or_default().to_owned(),
    }
}

pub(super) fn numbers(limit: &RuleLimit, rule: &Rule) -> LimitNumbers {
    let share = if rule.shadow_mode { EnforcedShare::NONE } else { limit.enforce };
    enforced(overrides::numbers(limit), share)
}

fn enforced(numbers: LimitNumbers, share: EnforcedShare) -> LimitNumbers {
    LimitNumbers { enforce: !share.is_none(), enforce_share: overrides::share_text(share), ..numbers }
}

pub(super) fn place(rule: &Rule) -> String {
    match rule.line {
        0 => rule.file.display().to_string(),
        line => format!("{}:{line}", rule.file.display()),
    }
}
