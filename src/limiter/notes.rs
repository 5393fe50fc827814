//! Notes of what a decision rested on, for answers that report more than the decision. They are made only if somebody
//! wants them, because nothing else on a request's path needs an id.

use std::sync::Arc;

use super::{
    decision::{Note, Notes},
    judge,
    plan::{Overridden, Plan, Planned},
};
use crate::{
    limit::{Reading, Request},
    metrics::requested_id,
};

impl Notes {
    pub(super) fn of(request: &Request<'_>, plan: &Plan<'_>, readings: &[Reading], rules_version: u64) -> Notes {
        let note = |planned: &Planned<'_>| match planned {
            Planned::UnknownDomain | Planned::NoMatch | Planned::Free => Note::default(),
            Planned::Unlimited(row) => Note { overridden: row.map(text), ..Note::default() },
            Planned::Requested { asks, .. } => Note {
                limit_id: Some(requested_id(request.domain).into()),
                window: Some(plan.asks[asks.start].limit.window),
                requested: true,
                ..Note::default()
            },
            Planned::Ruled { rule, counted, asks, .. } => {
                let told = judge::told(&plan.asks[asks.clone()], &readings[asks.clone()]);
                let limit_id = counted.known_as(told).map(|limit| Arc::clone(&limit.id));
                let window = Some(plan.asks[asks.start + told].limit.window);
                let overridden = counted.row.map(text);
                Note { limit_id, window, overridden, requested: false, metadata: rule.metadata.clone() }
            }
        };
        Notes { rules_version, descriptors: plan.descriptors.iter().map(note).collect() }
    }
}

fn text(row: Overridden<'_>) -> Box<str> {
    match row {
        Overridden::OnDisk(row) => row.to_string().into(),
        Overridden::RunTime(row) => row.to_string().into(),
    }
}
