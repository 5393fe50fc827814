//! Who is refused most, hit most, and would be refused: the lists of the limiter in words. It knows nothing of gRPC or HTTP.

use std::sync::Arc;

use super::{ApiError, RefusingLimit, TopEntry, TopRequest, TopResponse, bounds};
use crate::{
    blocking::blocking,
    clock,
    limit::{moment, written},
    limiter::{
        Snapshot,
        decision_feed::DecisionFeed,
        history::HourHistory,
        top::{self, RankedKey, RankedLimit, TopFilter, TopLists, TopMeasure, TopRecord, TopSpan},
    },
    privacy::Privacy,
    run_time::fleet::{self, Fleet},
};

/// Entries of an answer: as many as replicas send each other.
const ENTRIES_MAX: u32 = 100;
const ENTRIES_DEFAULT: u32 = 20;

/// Limits that the answer about the fleet names as those that refuse most.
const REFUSING_MAX: usize = 5;

const NOT_COUNTED: &str = "nothing is counted for these lists: TOLLGATE_TOP_MAX_BYTES is 0";

/// What answers about this process are made of.
pub struct Insight {
    /// The fleet's name, with which such answers begin.
    pub fleet: Box<str>,
    /// The last hour of this process.
    pub history: Arc<HourHistory>,
    /// `None` if nothing is counted for them.
    pub top: Option<Arc<TopLists>>,
    /// How values are shown.
    pub privacy: Privacy,
    /// Where decisions are watched.
    pub feed: Arc<DecisionFeed>,
}

/// A request that was read.
struct TopQuery {
    filter: TopFilter,
    by: TopMeasure,
    span: TopSpan,
    entries_max: usize,
}

/// What the replicas of a fleet have listed.
struct FleetTop {
    record: TopRecord,
    replicas: u32,
    /// Why lists of some are missing; empty if none are.
    partial: String,
}

impl Insight {
    /// The counters of these `domains` (`None` is all) with most of what is asked for.
    pub async fn top(
        &self,
        snapshot: &Snapshot,
        request: &TopRequest,
        domains: Option<Vec<&str>>,
        fleet: Option<&Fleet>,
    ) -> Result<TopResponse, ApiError> {
        if self.top.is_none() {
            return Err(ApiError::Unimplemented(NOT_COUNTED.into()));
        }
        let TopQuery { filter, by, span, entries_max } = self.read(request, domains.as_deref())?;
        // Others are asked only for limits that there are.
        let limit = Some(&*request.limit).filter(|id| require_limit(id, snapshot, domains.as_deref()).is_ok());
        let FleetTop { record, replicas, partial } = self.of_fleet(span, (filter, limit), fleet).await;
        let ranking = record.ranked(by, entries_max);
        if ranking.keys.is_empty() && !request.limit.is_empty() {
            require_limit(&request.limit, snapshot, domains.as_deref())?;
        }
        Ok(TopResponse {
            fleet: self.fleet.to_string(),
            replicas,
            by: by.name().to_owned(),
            since: span.name().to_owned(),
            from: moment::write(record.begins),
            entries: ranking.keys.iter().map(|key| entry(key, by)).collect(),
            others_at_most: ranking.others_at_most,
            partial,
        })
    }

    /// The limits that refused most in the last ten minutes, and why they may not be all of the fleet's.
    pub(super) async fn refusing(&self, domains: Option<&[&str]>, fleet: &Fleet) -> (Vec<RefusingLimit>, String) {
        let filter = of_domains(domains);
        let FleetTop { record, partial, .. } = self.of_fleet(TopSpan::TenMinutes, (filter, None), Some(fleet)).await;
        let limits = record.limits(TopMeasure::Denied, REFUSING_MAX).into_iter();
        let shown =
            |RankedLimit { limit, at_least: denied, counters }| RefusingLimit { limit: limit.into(), denied, counters };
        (limits.map(shown).collect(), partial)
    }

    /// What all replicas have listed, of one limit by lists of its own.
    async fn of_fleet(
        &self,
        span: TopSpan,
        (filter, limit): (TopFilter, Option<&str>),
        fleet: Option<&Fleet>,
    ) -> FleetTop {
        let Some(lists) = self.top.clone() else {
            return FleetTop { record: TopRecord::default(), replicas: 0, partial: NOT_COUNTED.to_owned() };
        };
        let others = match fleet {
            // Where they can't be read, this replica's own are better than nothing.
            Some(fleet) => fleet.lists_of_others(limit).await.map_err(|error| fleet::why_partial(&error)),
            None => Ok(Vec::new()),
        };
        let replicas = fleet.map_or(1, |fleet| fleet.heard().replicas.max(1));
        let (others, why) = others.map_or_else(|why| (Vec::new(), why), |others| (others, String::new()));
        let limit = limit.map(str::to_owned);
        let (record, listed) = blocking(move || {
            let mut records = vec![lists.read(span, &filter, clock::now())];
            let mut listed = 1;
            for other in &others {
                let of_limit = limit.as_deref().map(|limit| top::decode_of_limit(other, span, limit));
                let is_missing = matches!(of_limit, Some(None));
                // Until the list of a limit comes, that of all has the heaviest of its counters.
                if let Some(record) = of_limit.flatten().or_else(|| top::decode(other, span)) {
                    records.push(record.filtered(&filter));
                    listed += u32::from(!is_missing);
                }
            }
            (TopRecord::merged(records), listed)
        })
        .await;
        let partial = match why.is_empty() && listed < replicas {
            true => format!("{listed} of {replicas} replicas so far: the lists of the others come within some seconds"),
            false => why,
        };
        FleetTop { record, replicas, partial }
    }

    fn read(&self, request: &TopRequest, domains: Option<&[&str]>) -> Result<TopQuery, ApiError> {
        let mut filter = of_domains(domains);
        if !request.limit.is_empty() {
            filter = filter.of_limit(&request.limit);
        }
        if !request.entry.is_empty() {
            let entry = written::parse_entry(&request.entry)
                .map_err(|what| ApiError::invalid("entry", what, "such as user=alice"))?;
            filter = filter.of_entry(entry.entry(), &self.privacy);
        }
        let names = |names: &[&str]| format!("it is one of {}", names.join(", "));
        let by = match &*request.by {
            "" => TopMeasure::default(),
            text => TopMeasure::parse(text).ok_or_else(|| {
                let what = format!("nothing is counted as `{}`", bounds::shown(text));
                ApiError::invalid("by", what, names(&TopMeasure::ALL.map(TopMeasure::name)))
            })?,
        };
        let span = match &*request.since {
            "" => TopSpan::default(),
            text => TopSpan::parse(text).ok_or_else(|| {
                let what = format!("nothing is counted over `{}`", bounds::shown(text));
                ApiError::invalid("since", what, names(&TopSpan::ALL.map(TopSpan::name)))
            })?,
        };
        let entries_max = match request.n {
            0 => ENTRIES_DEFAULT,
            n @ 1..=ENTRIES_MAX => n,
            n => {
                let what = format!("{n} entries are more than {ENTRIES_MAX}");
                return Err(ApiError::invalid("n", what, "ask about one limit or domain to see more of it"));
            }
        };
        Ok(TopQuery { filter, by, span, entries_max: entries_max as usize })
    }
}

/// Counters of these domains (`None` is all).
fn of_domains(domains: Option<&[&str]>) -> TopFilter {
    let all = TopFilter::default();
    match domains {
        Some(domains) => all.of_domains(domains.iter().copied()),
        None => all,
    }
}

/// An answer without entries is right only for a limit that there is, in a domain that may be seen.
pub(super) fn require_limit(id: &str, snapshot: &Snapshot, domains: Option<&[&str]>) -> Result<(), ApiError> {
    let is_seen = |domain: &str| domains.is_none_or(|domains| domains.contains(&domain));
    let is_one = snapshot.rules.domains().iter().filter(|domain| is_seen(domain.name())).any(|domain| {
        let of_none = id.strip_prefix(domain.name()).is_some_and(|rest| ["/(request)", "/(override)"].contains(&rest));
        of_none || domain.rules().iter().flat_map(|rule| &rule.limits).any(|limit| *limit.id == *id)
    });
    match is_one {
        true => Ok(()),
        false => Err(ApiError::NotFound(format!("no limit has the id `{}`", bounds::shown(id)))),
    }
}

fn entry(key: &RankedKey, by: TopMeasure) -> TopEntry {
    let ([denied, hits, shadow], [denied_error, hits_error, shadow_error]) = (key.counts, key.errors);
    TopEntry {
        limit: key.limit.to_string(),
        descriptor: key.descriptor.to_string(),
        denied,
        hits,
        shadow,
        error: key.errors[by as usize],
        denied_error,
        hits_error,
        shadow_error,
    }
}
