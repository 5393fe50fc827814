//! What the replicas of the fleet say of themselves, and what of it wants attention. Knows nothing of gRPC or HTTP.

use std::collections::BTreeMap;

use super::{Api, ApiError, GetFleetResponse, LimitSwitch, Replica, overrides, switches};
use crate::{
    clock,
    limit::{UnixMicros, moment},
    limiter::Snapshot,
    run_time::fleet::{FleetView, ReplicaRecord},
};

/// The fleet as a caller sees it who may see these `domains` (`None` is all).
pub(super) async fn get(
    api: &Api,
    snapshot: &Snapshot,
    domains: Option<&[&str]>,
) -> Result<GetFleetResponse, ApiError> {
    let run_time = overrides::run_time(api)?;
    let view = run_time.fleet.read().await;
    let switched = switches::list(api, snapshot, domains)?.switches;
    let may_see_files = domains.is_none();
    let (refusing, refusing_partial) = api.insight.refusing(domains, &run_time.fleet).await;
    Ok(GetFleetResponse {
        fleet: view.name.to_string(),
        attention: attention(&view, may_see_files, &switched),
        replicas: view.replicas.iter().map(|record| shown(record, may_see_files)).collect(),
        partial: view.partial.map(Into::into).unwrap_or_default(),
        switches: switched,
        refusing,
        refusing_partial,
        at: moment::write(run_time.overrides.wall(clock::now())),
    })
}

fn shown(record: &ReplicaRecord, may_see_files: bool) -> Replica {
    let at = |micros: u64| moment::write(UnixMicros(micros));
    let places = record.rules.places.iter().filter(|_| may_see_files).map(|place| place.to_string());
    Replica {
        name: record.name.to_string(),
        addresses: record.addresses.iter().map(|address| address.to_string()).collect(),
        version: record.version.to_string(),
        started: at(record.started),
        at: at(record.at),
        rules_hash: record.rules.hash.to_string(),
        rules_version: record.rules.version,
        rules_loaded: at(record.rules.loaded),
        problems: record.rules.problems,
        problem_places: places.collect(),
        store: record.store.kind.to_string(),
        store_answers: record.store.answers,
        breakers_open: record.store.breakers_open,
        requests: record.rates.requests,
        refused: record.rates.refused,
        degraded: record.rates.degraded,
        overrides_generation: record.overrides_generation,
        knows_switches: record.knows_switches(),
        switched_here: record.switched_here,
    }
}

/// What differs between replicas or is wrong with one, in words, with the names of those that it is about.
fn attention(view: &FleetView, may_see_files: bool, switched: &[LimitSwitch]) -> Vec<String> {
    let has_shares = switched.iter().any(|switch| !switch.share.is_empty());
    let mut found = Vec::new();
    let mut differing = |what: &str, of: fn(&ReplicaRecord) -> &str| {
        let mut by_value: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for record in &view.replicas {
            by_value.entry(of(record)).or_default().push(&record.name);
        }
        if by_value.len() > 1 {
            let parts = by_value.iter().map(|(value, names)| format!("{value} on {}", several(names)));
            found.push(format!("replicas have different {what}: {}", parts.collect::<Vec<_>>().join("; ")));
        }
    };
    differing("rules", |record| &record.rules.hash);
    differing("versions", |record| &record.version);
    for record in &view.replicas {
        let name = &record.name;
        if record.rules.problems > 0 {
            let places = if may_see_files { record.rules.places.join(", ") } else { String::new() };
            let places = if places.is_empty() { places } else { format!(" ({places})") };
            let problems = record.rules.problems;
            found.push(format!("{name}: {problems} errors in its files, so that older rules are in force{places}"));
        }
        if !record.store.answers {
            found.push(format!("{name}: its store doesn't answer, so that failure policies decide"));
        } else if record.store.breakers_open > 0 {
            found.push(format!("{name}: {} circuit breakers are open", record.store.breakers_open));
        }
        if !record.knows_switches() {
            found.push(format!("{name}: its release is too old for switches"));
        } else if has_shares && !record.knows_shares {
            found.push(format!("{name}: its release is too old for `limits enforce`, and goes on without"));
        }
        if record.switched_here > 0 {
            found.push(format!("{name}: {} limits are switched on this replica alone", record.switched_here));
        }
    }
    found.extend(view.partial.iter().map(|why| why.to_string()));
    found
}

/// A few names, and how many more.
fn several(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
