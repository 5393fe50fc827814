//! Lists the limits of the rules with what they decide now. Knows nothing of gRPC or HTTP.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use super::{
    Api, ApiError, LimitOverview, LimitSwitch, ListLimitsRequest, ListLimitsResponse, bounds,
    history::{known, rounded},
    page::{bad_token, read_token, write_token},
    switches,
};
use crate::{
    blocking::blocking,
    clock,
    limiter::{
        Snapshot,
        history::{LimitMinutes, LimitRates},
    },
    rules::{Domain, Rule, RuleLimit},
};

/// What the order is by.
#[derive(Clone, Copy)]
enum LimitOrder {
    Refused,
    Requests,
    Id,
}

impl LimitOrder {
    fn parse(text: &str) -> Result<LimitOrder, ApiError> {
        match text {
            "" | "refused" => Ok(LimitOrder::Refused),
            "requests" => Ok(LimitOrder::Requests),
            "id" => Ok(LimitOrder::Id),
            text => {
                let what = format!("limits have no order by `{}`", bounds::shown(text));
                Err(ApiError::invalid("by", what, "it is one of refused, requests, id"))
            }
        }
    }

    /// What comes first has the greatest; among equals, the order is that of the files.
    fn weight(self, rates: &LimitRates) -> (u64, u64) {
        let scaled = |rate: f32| (rate * 1e3) as u64;
        match self {
            LimitOrder::Refused => (scaled(rates.refused + rates.shadow), scaled(rates.requests)),
            LimitOrder::Requests => (scaled(rates.requests), 0),
            LimitOrder::Id => (0, 0),
        }
    }
}

/// A limit that is listed.
struct Found {
    domain: usize,
    rule: usize,
    limit: usize,
    rates: LimitRates,
}

/// The limits of these `domains` (`None` is all).
pub(super) async fn list(
    api: &Api,
    snapshot: &Arc<Snapshot>,
    request: &ListLimitsRequest,
    domains: Option<&[&str]>,
) -> Result<ListLimitsResponse, ApiError> {
    let order = LimitOrder::parse(&request.by)?;
    bounds::check_value("search", &request.search)?;
    let from = match read_token(&request.page_token)? {
        None => 0,
        Some(place) => place.parse().map_err(|_| bad_token())?,
    };
    let size = bounds::page_size(request.page_size)? as usize;
    let search = request.search.clone();
    let is_seen = |domain: &Domain| domains.is_none_or(|domains| domains.contains(&domain.name()));
    let seen: Vec<bool> = snapshot.rules.domains().iter().map(|domain| is_seen(domain)).collect();
    let (history, limiter, rules) = (Arc::clone(&api.insight.history), api.limiter.clone(), Arc::clone(snapshot));
    let with_hour = request.hour;
    // It goes through every rule.
    let (page, hours, total) = blocking(move || {
        let rates = history.rates(clock::now(), limiter.metrics(), &rules);
        let mut found = matching(&rules, &seen, &search);
        for one in &mut found {
            let limit = &rules.rules.domains()[one.domain].rules()[one.rule].limits[one.limit];
            one.rates = rates.get(&limit.id_hash).copied().unwrap_or_default();
        }
        match order {
            LimitOrder::Id => {
                let id = |of: &Found| &rules.rules.domains()[of.domain].rules()[of.rule].limits[of.limit].id;
                found.sort_by(|one, other| id(one).cmp(id(other)));
            }
            order => found.sort_by_key(|of| Reverse(order.weight(&of.rates))),
        }
        let total = found.len();
        let page: Vec<Found> = found.into_iter().skip(from).take(size).collect();
        let hash = |of: &Found| rules.rules.domains()[of.domain].rules()[of.rule].limits[of.limit].id_hash;
        let hashes: Vec<u64> = page.iter().map(hash).collect();
        let minutes = if with_hour { history.minutes(&hashes) } else { HashMap::new() };
        let hours: Vec<LimitMinutes> =
            hashes.iter().map(|hash| minutes.get(hash).cloned().unwrap_or_default()).collect();
        (page, hours, total)
    })
    .await;
    let switched = switches::list(api, snapshot, domains)?.switches;
    let end = from.saturating_add(page.len());
    let next_page_token = if end < total && !page.is_empty() { write_token(&end.to_string()) } else { String::new() };
    let overview = |(found, hour): (&Found, &LimitMinutes)| {
        let domain = &snapshot.rules.domains()[found.domain];
        let rule = &domain.rules()[found.rule];
        LimitOverview {
            hour_requests: minutes_of(hour, |minute| minute.requests),
            hour_refused: minutes_of(hour, |minute| minute.refused),
            hour_shadow: minutes_of(hour, |minute| minute.shadow),
            ..overview(domain, rule, &rule.limits[found.limit], &found.rates, &switched)
        }
    };
    let limits = page.iter().zip(&hours).map(overview).collect();
    Ok(ListLimitsResponse { limits, total: total as u32, next_page_token })
}

/// Nothing where all is 0, which most limits are.
fn minutes_of(hour: &LimitMinutes, of: fn(&LimitRates) -> f32) -> Vec<f64> {
    let minutes: Vec<f64> = hour.iter().map(|minute| known(minute, of)).collect();
    if minutes.iter().any(|minute| *minute > 0.0) { minutes } else { Vec::new() }
}

fn matching(snapshot: &Snapshot, seen: &[bool], search: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for (index, domain) in snapshot.rules.domains().iter().enumerate().filter(|(index, _)| seen[*index]) {
        for (rule, of_rule) in domain.rules().iter().enumerate() {
            let limits = of_rule.limits.iter().enumerate().filter(|(_, limit)| limit.id.contains(search));
            found.extend(limits.map(|(limit, _)| Found { domain: index, rule, limit, rates: LimitRates::default() }));
        }
    }
    found
}

fn overview(
    domain: &Domain,
    rule: &Rule,
    limit: &RuleLimit,
    rates: &LimitRates,
    switched: &[LimitSwitch],
) -> LimitOverview {
    let is_its_own = |of: &&LimitSwitch| *of.limit_id == *limit.id;
    let is_for_it =
        |of: &&LimitSwitch| of.domain == domain.name() && (*of.limit_id == *rule.id || (of.all && rule.switchable));
    LimitOverview {
        domain: domain.name().to_owned(),
        limit_id: limit.id.to_string(),
        limit: Some(switches::numbers(limit, rule)),
        place: switches::place(rule),
        switchable: rule.switchable,
        requests: rounded(rates.requests.into()),
        refused: rounded(rates.refused.into()),
        shadow: rounded(rates.shadow.into()),
        // The narrowest is the one that counts.
        switched: switched.iter().find(is_its_own).or_else(|| switched.iter().find(is_for_it)).cloned(),
        ..LimitOverview::default()
    }
}
