//! Notes of what a decision rested on, for answers that report more than the decision. They are made only if somebody
//! wants them, because nothing else on a request's path needs an id.

use std::sync::Arc;

use super::{
    decision::{Note, NotedOverride, Notes},
    judge,
    plan::{AppliedOverride, Plan, PlannedDescriptor},
};
use crate::{
    limit::{Reading, Request},
    metrics::requested_id,
};

impl Notes {
    pub(super) fn of(request: &Request<'_>, plan: &Plan<'_>, readings: &[Reading], rules_version: u64) -> Notes {
        let note = |planned: &PlannedDescriptor<'_>| match planned {
            PlannedDescriptor::UnknownDomain | PlannedDescriptor::NoMatch | PlannedDescriptor::NoLimit => {
                Note::default()
            }
            PlannedDescriptor::Unlimited(row) => Note { overridden: row.map(overridden), ..Note::default() },
            PlannedDescriptor::Requested { checks, .. } => Note {
                limit_id: Some(requested_id(request.domain).into()),
                window: Some(plan.checks[checks.start].limit.window),
                requested: true,
                ..Note::default()
            },
            PlannedDescriptor::Ruled { rule, applied: counted, checks, .. } => {
                let reported = judge::reported_check(&plan.checks[checks.clone()], &readings[checks.clone()]);
                let limit_id = counted.counted_as(reported).map(|limit| Arc::clone(&limit.id));
                let window = Some(plan.checks[checks.start + reported].limit.window);
                let overridden = counted.overridden_by.map(overridden);
                Note { limit_id, window, overridden, requested: false, metadata: rule.metadata.clone() }
            }
        };
        Notes { rules_version, descriptors: plan.descriptors.iter().map(note).collect() }
    }
}

pub(super) fn overridden(row: AppliedOverride<'_>) -> NotedOverride {
    let owned = |(key, value): (&str, &str)| (key.into(), value.into());
    match row {
        AppliedOverride::InFile(row) => {
            NotedOverride { text: row.to_string().into(), entries: row.matches().map(owned).collect() }
        }
        AppliedOverride::RunTime(row) => {
            NotedOverride { text: row.to_string().into(), entries: row.entries().map(owned).collect() }
        }
    }
}
