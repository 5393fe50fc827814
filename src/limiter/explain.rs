//! Explains how a request would be decided, and counts nothing. It uses the same plan and the same judgement as a
//! decision, so that the explanation can't differ from it.

pub(crate) mod words;

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    DecideError, Decision, Limiter, Notes, RequestedKind, Snapshot,
    fallback::{LocalCounter, Policies},
    judge,
    plan::{AppliedOverride, Plan, PlannedDescriptor, client_part},
    switched::{self, Switching},
};
use crate::{
    algorithm::{CounterContents, State},
    limit::{
        ClientPart, Code, CountDenied, Descriptor, EnforcedShare, FailurePolicy, Limit, Reading, Request, UnixMicros,
    },
    metrics::requested_id,
    rules::rows::RowRef,
    run_time::{
        overrides::{Record, ResolvedOverride},
        switches::Switch,
    },
    store::{CounterCheck, Readings, Role, Store, StoreError},
};

/// How a request would be answered, and why.
pub struct Explanation {
    /// The rules that the explanation rests on.
    pub snapshot: Arc<Snapshot>,
    /// The time by which overrides have ended or not.
    pub wall: UnixMicros,
    /// The decision, with notes. Its numbers are those before the request: its cost isn't subtracted. If the store failed it
    /// is that of the failure policies; `None` if that is an error.
    pub decision: Option<Decision>,
    /// Why the store didn't answer, if it didn't.
    pub store_error: Option<StoreError>,
    /// The explanations of the descriptors, in their order.
    pub descriptors: Vec<DescriptorExplanation>,
}

pub struct DescriptorExplanation {
    pub applies: Applies,
    /// The override that applies in place of the rule's limits.
    pub overridden: Option<OverrideExplanation>,
    /// The limits of the descriptor that a switch changes, by their ids; also those that are off and have no counter.
    pub switched: Vec<(Arc<str>, Arc<Switch>)>,
    /// The counters of the descriptor, in the order of their checks.
    pub counters: Vec<CounterExplanation>,
}

/// What limits a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// No rule matched; the steps of the walk say why.
    Nothing,
    /// A rule without limits, or all of them replaced by those of another descriptor.
    NoLimit,
    Unlimited,
    Limits,
    /// The limit that came with the request.
    Requested,
}

/// An override that applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideExplanation {
    /// Id of a run-time override; empty for one in a file.
    pub id: String,
    pub matches: Vec<(String, String)>,
    /// File and line of an override in a file; empty for a run-time override.
    pub location: String,
    pub expires: Option<UnixMicros>,
    pub reason: String,
    pub owner: String,
    /// A problem that its owner should know of, such as a tier that is gone; mostly empty.
    pub warning: String,
}

/// One counter of the request.
pub struct CounterExplanation {
    pub limit_id: Arc<str>,
    pub name: Option<Box<str>>,
    /// The tier that gives the limit the numbers which it doesn't have itself.
    pub tier: Option<Arc<str>>,
    pub limit: Limit,
    /// The clients whom it may deny, also by a switch.
    pub enforce: EnforcedShare,
    /// The part of this client, where only a share is denied; `None` also if all clients share the counter.
    pub part: Option<ClientPart>,
    pub role: Role,
    /// Name of the counter, as [`crate::store::Store::counter_name`] makes it.
    pub key: String,
    /// The failure policy of the limit.
    pub on_store_failure: FailurePolicy,
    pub count_denied: CountDenied,
    /// Since when Envoy has checked the limit as a budget; only for limits with `auto`.
    pub budget_since: Option<UnixMicros>,
    /// The reading; `None` if the store failed.
    pub reading: Option<Reading>,
    /// The counter's contents; `None` if the store failed or they could not be read.
    pub contents: Option<ContentsAt>,
    /// The counter in this replica's memory, if the store failed and that decides.
    pub local: Option<LocalCounter>,
    /// Hits that this replica still has to charge in the store.
    pub deferred: u64,
}

/// What was seen of the counters of a request, in the order of its checks.
enum Seen {
    InStore(Readings, Vec<Option<ContentsAt>>),
    /// The store failed: those that decide in its place, where one does.
    Locally(Vec<Option<LocalCounter>>),
}

impl Seen {
    fn reading(&self, index: usize) -> Option<Reading> {
        if let Seen::InStore(readings, _) = self { Some(readings[index]) } else { None }
    }

    fn contents(&self, index: usize) -> Option<ContentsAt> {
        if let Seen::InStore(_, contents) = self { contents[index].clone() } else { None }
    }

    fn local(&self, index: usize) -> Option<LocalCounter> {
        if let Seen::Locally(local) = self { local[index] } else { None }
    }
}

impl CounterExplanation {
    /// Whether the limit is a budget, see [`CountDenied::is_budget`].
    pub fn is_budget(&self) -> Option<bool> {
        self.count_denied.is_budget(self.budget_since)
    }
}

/// What a counter holds, and when that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct ContentsAt {
    pub contents: CounterContents,
    /// The time of the reading, by the clock that decides the counter.
    pub at: UnixMicros,
}

impl Limiter {
    /// Explains how `request` would be answered at `now`. Counts nothing, not even in metrics.
    pub async fn explain(
        &self,
        request: &Request<'_>,
        now: UnixMicros,
        deadline: Instant,
    ) -> Result<Explanation, DecideError> {
        self.explain_with(request, now, async |checks| {
            let readings = self.store.peek(checks, now, deadline).await?;
            // Only if the store answered, so that a store that fails isn't waited for a second time.
            Ok((readings, self.contents(checks, now).await))
        })
        .await
    }

    /// Explains how `request` would be answered if the store had failed with `why`. The store isn't called.
    pub async fn explain_without_store(
        &self,
        request: &Request<'_>,
        why: StoreError,
        now: UnixMicros,
    ) -> Result<Explanation, DecideError> {
        self.explain_with(request, now, async |_| Err(why)).await
    }

    async fn explain_with(
        &self,
        request: &Request<'_>,
        now: UnixMicros,
        check: impl AsyncFnOnce(&[CounterCheck<'_>]) -> Result<(Readings, Vec<Option<ContentsAt>>), StoreError>,
    ) -> Result<Explanation, DecideError> {
        let in_force = self.in_force_to_keep();
        let mut plan = Plan::new(self.modes);
        self.fill(&mut plan, &in_force, request, now)?;
        let snapshot = in_force.snapshot();
        let judged = |readings: &Readings, policies: &Policies| {
            let mut decision = judge::judge(&plan, readings, policies);
            decision.notes = Some(Box::new(Notes::of(request, &plan, readings, snapshot.version)));
            decision
        };
        let (decision, store_error, seen) = match check(&plan.checks).await {
            Ok((readings, contents)) => {
                (Some(judged(&readings, &Policies::new())), None, Seen::InStore(readings, contents))
            }
            Err(error) => {
                let view = self.fallback.look(&plan, self.modes.on_store_failure, now);
                let decision = judged(&view.readings, &view.policies);
                // A definite denial hides the error.
                let is_error = view.is_error && decision.overall == Code::Ok;
                (Some(decision).filter(|_| !is_error), Some(error), Seen::Locally(view.local))
            }
        };
        let switching = Switching::of(in_force.inputs(request.domain, now).changes);
        let descriptors = request.descriptors.iter().zip(&plan.descriptors).map(|(asked, planned)| {
            let explained = self.descriptor((request, asked), &plan, planned, (snapshot, now), (switching, &seen));
            let is_requested = explained.applies == Applies::Requested;
            let asked = (request, asked);
            let switched = switching.of_descriptor(&snapshot.rules, asked, is_requested, || self.wall(now));
            DescriptorExplanation { switched, ..explained }
        });
        let descriptors = descriptors.collect();
        drop(plan);
        Ok(Explanation { wall: self.wall(now), decision, store_error, descriptors, snapshot: in_force.into_snapshot() })
    }

    /// The contents of each check's counter. In Redis they are read over the connection for resets, so that no decision
    /// waits for them.
    async fn contents(&self, checks: &[CounterCheck<'_>], now: UnixMicros) -> Vec<Option<ContentsAt>> {
        let reported = |check: &CounterCheck<'_>, state: State, at| {
            Some(ContentsAt { contents: state.contents(&check.limit, at), at })
        };
        match (&self.store, &self.run_time) {
            (Store::Memory(memory), _) => {
                checks.iter().map(|check| reported(check, memory.state(check, now), now)).collect()
            }
            (_, Some(run_time)) => {
                let read = async |check| {
                    run_time.resets.state(check, now).await.map_or(None, |(state, at)| reported(check, state, at))
                };
                join_all(checks.iter().map(read)).await
            }
            (_, None) => vec![None; checks.len()],
        }
    }

    fn descriptor(
        &self,
        (request, asked): (&Request<'_>, &Descriptor<'_>),
        plan: &Plan<'_>,
        planned: &PlannedDescriptor<'_>,
        (snapshot, now): (&Snapshot, UnixMicros),
        (switching, seen): (Switching<'_>, &Seen),
    ) -> DescriptorExplanation {
        let default = self.modes.on_store_failure;
        let count_denied = self.modes.count_denied;
        let of_requested = || {
            let kind = RequestedKind::of(request.domain, &asked.entries, asked.limit?.1);
            snapshot.budgets.requested().since(kind, now)
        };
        let counter = |index: usize| {
            let check = &plan.checks[index];
            CounterExplanation {
                limit_id: requested_id(request.domain).into(),
                name: None,
                tier: None,
                limit: check.limit,
                enforce: EnforcedShare::ALL,
                part: None,
                role: check.role,
                key: self.store.counter_name(check),
                on_store_failure: default,
                count_denied,
                budget_since: None,
                reading: seen.reading(index),
                contents: seen.contents(index),
                local: seen.local(index),
                deferred: self.fallback.deferred.due(check),
            }
        };
        let none = |applies, row: Option<AppliedOverride<'_>>| DescriptorExplanation {
            applies,
            overridden: row.map(OverrideExplanation::of_any),
            switched: Vec::new(),
            counters: Vec::new(),
        };
        match planned {
            PlannedDescriptor::UnknownDomain | PlannedDescriptor::NoMatch => none(Applies::Nothing, None),
            PlannedDescriptor::NoLimit => none(Applies::NoLimit, None),
            PlannedDescriptor::Unlimited(row) => none(Applies::Unlimited, *row),
            PlannedDescriptor::Requested { checks, .. } => DescriptorExplanation {
                applies: Applies::Requested,
                overridden: None,
                switched: Vec::new(),
                counters: checks
                    .clone()
                    .map(|index| CounterExplanation {
                        budget_since: since(count_denied, of_requested),
                        ..counter(index)
                    })
                    .collect(),
            },
            PlannedDescriptor::Ruled { domain, rule, applied: counted, checks } => {
                let limits = counted.limits().zip(counted.policies(default)).zip(counted.rule_positions());
                let limits = limits.enumerate().zip(checks.clone());
                let counters = limits.map(|((nth, ((limit, on_store_failure), place)), index)| {
                    let identity = counted.identity(limit);
                    let switch = switching.of_limit(rule, identity, || self.wall(now));
                    let share = switch.and_then(|switch| switch.mode.share());
                    let share = share.and_then(|share| switched::share(share, limit, counted.overridden_by.is_some()));
                    let enforce = share.unwrap_or(limit.enforce);
                    let part = enforce.is_partial().then(|| client_part(rule, identity, &plan.checks[index].key));
                    CounterExplanation {
                        count_denied: limit.count_denied,
                        budget_since: since(limit.count_denied, || {
                            snapshot.budgets.of(*domain, rule, place).since(now)
                        }),
                        limit_id: counted
                            .counted_as(nth)
                            .map_or_else(|| Arc::clone(&limit.id), |own| Arc::clone(&own.id)),
                        name: limit.name.clone(),
                        tier: limit.tier.clone(),
                        enforce,
                        part: part.flatten(),
                        on_store_failure,
                        ..counter(index)
                    }
                });
                DescriptorExplanation {
                    applies: Applies::Limits,
                    overridden: counted.overridden_by.map(OverrideExplanation::of_any),
                    switched: Vec::new(),
                    counters: counters.collect(),
                }
            }
        }
    }
}

/// Only limits with `auto` learn whether they are budgets.
fn since(when: CountDenied, learned: impl FnOnce() -> Option<UnixMicros>) -> Option<UnixMicros> {
    if when == CountDenied::Auto { learned() } else { None }
}

impl OverrideExplanation {
    fn of_any(row: AppliedOverride<'_>) -> OverrideExplanation {
        match row {
            AppliedOverride::InFile(row) => OverrideExplanation::of(row),
            AppliedOverride::RunTime(row) => OverrideExplanation::set(row),
        }
    }

    fn set(row: &ResolvedOverride) -> OverrideExplanation {
        let matches = row.matches.iter().flat_map(|matches| matches.shape.keys.iter().zip(&matches.values));
        let record: Option<Record> = serde_json::from_str(&row.record).ok();
        let text =
            |key: &str| record.as_ref().and_then(|record| record.written[key].as_str()).unwrap_or_default().to_owned();
        OverrideExplanation {
            id: row.id.to_string(),
            matches: matches.map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            location: String::new(),
            expires: row.expires,
            reason: text("reason"),
            owner: text("owner"),
            warning: row.warning.as_deref().unwrap_or_default().to_owned(),
        }
    }

    pub fn of(row: RowRef<'_>) -> OverrideExplanation {
        let place = row.location();
        OverrideExplanation {
            id: String::new(),
            matches: row.matches().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            location: format!("{}:{}", place.path.display(), place.line),
            expires: row.expires(),
            reason: row.reason().to_owned(),
            owner: row.owner().to_owned(),
            warning: String::new(),
        }
    }
}
