//! What a replay found, as it is printed: as JSON as it stands here, and in words by `text` and `markdown`. Of a sample, numbers
//! are scaled to all clients.

pub(super) mod markdown;
pub(super) mod text;

use serde::Serialize;

use super::{
    counters::CounterTally,
    fit::Fit,
    input::InputCounts,
    ranking::{Ranked, Ranking},
    scale::Scale,
    tally::{LimitTally, Side, Tally},
    timeline::{Peak, Timeline},
};
use crate::limit::{EnforcedShare, moment};

#[derive(Serialize)]
pub(super) struct Report {
    /// Time of the first request, and of the last.
    pub(super) from: String,
    pub(super) to: String,
    pub(super) seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sample: Option<SampleReport>,
    /// What the new rules are compared with: `rules`, `log` or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compared_with: Option<&'static str>,
    pub(super) requests: u64,
    pub(super) admitted: u64,
    pub(super) refused: u64,
    /// Requests that met no limit.
    pub(super) not_limited: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<BeforeReport>,
    pub(super) over_time: OverTime,
    pub(super) limits: Vec<LimitReport>,
    pub(super) most_refused: Vec<CounterReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) newly_refused: Option<Vec<CounterReport>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) newly_admitted: Option<Vec<CounterReport>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) fit: Vec<Fit>,
    pub(super) log: LogReport,
}

/// The share of clients whose requests the log has.
#[derive(Serialize)]
pub(super) struct SampleReport {
    pub(super) share: String,
    /// Keys of the entries that tell clients apart.
    pub(super) by: Vec<String>,
    /// Requests that were played.
    pub(super) requests: u64,
    /// What the numbers of this report are multiplied with.
    pub(super) factor: f64,
}

/// Requests under the rules of before, of those of which it is known.
#[derive(Serialize)]
pub(super) struct BeforeReport {
    pub(super) requests: u64,
    pub(super) refused: u64,
    pub(super) newly_refused: u64,
    pub(super) newly_admitted: u64,
}

#[derive(Serialize)]
pub(super) struct OverTime {
    pub(super) bucket_seconds: f64,
    pub(super) requests: Vec<u64>,
    pub(super) refused: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused_before: Option<Vec<u64>>,
    pub(super) peak_requests: Option<PeakReport>,
    pub(super) peak_refused: Option<PeakReport>,
}

#[derive(Serialize)]
pub(super) struct PeakReport {
    pub(super) count: u64,
    pub(super) at: String,
    pub(super) seconds: f64,
}

#[derive(Serialize)]
pub(super) struct LimitReport {
    pub(super) limit_id: String,
    /// In words: `20 a minute, sliding_window`. Left out if the new rules don't have the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<String>,
    /// The same of the rules that these are compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit_before: Option<String>,
    pub(super) admitted: u64,
    pub(super) refused: u64,
    /// Would have been refused, if the limit denied this client.
    pub(super) shadow: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) newly_refused: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) newly_admitted: Option<u64>,
    pub(super) counters: u64,
    pub(super) counters_refused: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) counters_refused_before: Option<u64>,
    /// In a sample of clients: each hit counts for several, because clients share these counters.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) estimated: bool,
    pub(super) most_refused: Vec<CounterReport>,
    pub(super) refused_over_time: Vec<u64>,
    pub(super) peak_refused: Option<PeakReport>,
}

#[derive(Clone, Serialize)]
pub(super) struct CounterReport {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) limit_id: String,
    pub(super) descriptor: String,
    /// Of a sample too, because it is that of one client.
    pub(super) requests: u64,
}

/// What is to be said of the logs.
#[derive(Serialize)]
pub(super) struct LogReport {
    /// Played at the time of a later request that came before them.
    pub(super) out_of_order: u64,
    /// Had more descriptors than the log has of them.
    pub(super) incomplete: u64,
    /// Logs whose last line was cut off.
    pub(super) truncated: u64,
    /// Requests of which none of the descriptors could be made, which aren't played.
    pub(super) without_descriptor: u64,
    /// Refused requests beside a sample, which aren't played.
    pub(super) denials_left_out: u64,
}

/// What a report is made with, beside the counts.
pub(super) struct ReportInputs<'a> {
    /// Most counters in each list.
    pub(super) top: usize,
    pub(super) counts: &'a InputCounts,
    /// The share of clients, in parts, and the keys that tell them apart.
    pub(super) sample: Option<(u16, &'a [Box<str>])>,
    /// The rules of before were played too.
    pub(super) against: bool,
    pub(super) fit: Vec<Fit>,
}

impl Report {
    pub(super) fn new(tally: Tally, by: ReportInputs<'_>) -> Report {
        let scale = by.sample.map_or(Scale::ONE, |(parts, _)| Scale::of_parts(parts));
        let totals = tally.totals;
        let is_compared = totals.compared > 0;
        let sample = by.sample.map(|(parts, keys)| SampleReport {
            share: EnforcedShare::of_parts(parts).to_string(),
            by: keys.iter().map(|key| key.to_string()).collect(),
            requests: totals.requests,
            factor: scale.factor(),
        });
        let before = is_compared.then(|| BeforeReport {
            requests: scale.of(totals.compared),
            refused: scale.of(totals.refused_before),
            newly_refused: scale.of(totals.newly_refused),
            newly_admitted: scale.of(totals.newly_admitted),
        });
        let over_time = OverTime::new(&tally, scale, is_compared);
        let last = tally.last_bucket();
        let compared = Compared { any: is_compared, with_rules: by.against };
        let (buckets, limits) = (tally.buckets, tally.limits);
        let peak = |timeline: &Timeline| timeline.peak(buckets).map(|peak| PeakReport::new(peak, scale));
        let limits: Vec<LimitReport> = limits
            .into_iter()
            .map(|limit| {
                let over_time = limit.refused.counts(buckets, last).into_iter().map(|count| scale.of(count)).collect();
                LimitReport {
                    peak_refused: peak(&limit.refused),
                    ..LimitReport::new(limit, scale, compared, over_time)
                }
            })
            .collect();
        let most_refused = most_refused(&limits, by.top);
        let listed = |ranking: Ranking| is_compared.then(|| listed(ranking));
        Report {
            from: moment::write(tally.first),
            to: moment::write(tally.last),
            seconds: (tally.last.0 - tally.first.0) as f64 / 1e6,
            sample,
            compared_with: is_compared.then_some(if by.against { "rules" } else { "log" }),
            requests: scale.of(totals.requests),
            admitted: scale.of(totals.requests - totals.refused),
            refused: scale.of(totals.refused),
            not_limited: scale.of(totals.not_limited),
            before,
            over_time,
            limits,
            most_refused,
            newly_refused: listed(tally.most_newly_refused),
            newly_admitted: listed(tally.most_newly_admitted),
            fit: by.fit,
            log: LogReport {
                out_of_order: by.counts.out_of_order,
                incomplete: by.counts.incomplete,
                truncated: by.counts.truncated,
                without_descriptor: by.counts.without_descriptor,
                denials_left_out: by.counts.denials,
            },
        }
    }
}

/// What the counts can be compared with.
#[derive(Clone, Copy)]
struct Compared {
    any: bool,
    /// With rules that were played too, so that it is known of each limit.
    with_rules: bool,
}

impl LimitReport {
    fn new(limit: LimitTally, scale: Scale, compared: Compared, refused_over_time: Vec<u64>) -> LimitReport {
        let [new, before] = limit.checks;
        // Counters that clients share are all there, whatever the sample.
        let counter_scale = if limit.is_shared { Scale::ONE } else { scale };
        let count = |is_so: fn(&CounterTally) -> bool| counter_scale.of(limit.counters.count(is_so));
        let [words, words_before] = limit.words;
        debug_assert_eq!((Side::New as usize, Side::Before as usize), (0, 1));
        LimitReport {
            counters: counter_scale.of(limit.counters.len() as u64),
            counters_refused: count(|tally| tally.refused > 0),
            counters_refused_before: compared.with_rules.then(|| count(|tally| tally.refused_before > 0)),
            limit_id: limit.id.to_string(),
            limit: words,
            limit_before: words_before,
            admitted: scale.of(new.admitted),
            refused: scale.of(new.refused),
            shadow: scale.of(new.shadow),
            refused_before: compared.with_rules.then(|| scale.of(before.refused)),
            newly_refused: compared.any.then(|| scale.of(limit.newly_refused)),
            newly_admitted: compared.any.then(|| scale.of(limit.newly_admitted)),
            estimated: limit.is_shared,
            most_refused: listed(limit.most_refused)
                .into_iter()
                .map(|counter| CounterReport { limit_id: String::new(), ..counter })
                .collect(),
            refused_over_time,
            peak_refused: None,
        }
    }
}

impl OverTime {
    fn new(tally: &Tally, scale: Scale, is_compared: bool) -> OverTime {
        let last = tally.last_bucket();
        let counts = |timeline: &Timeline| {
            timeline.counts(tally.buckets, last).into_iter().map(|count| scale.of(count)).collect::<Vec<_>>()
        };
        let peak = |timeline: &Timeline| timeline.peak(tally.buckets).map(|peak| PeakReport::new(peak, scale));
        OverTime {
            bucket_seconds: tally.buckets.span().0 as f64 / 1e6,
            requests: counts(&tally.requests),
            refused: counts(&tally.refused),
            refused_before: is_compared.then(|| counts(&tally.refused_before)),
            peak_requests: peak(&tally.requests),
            peak_refused: peak(&tally.refused),
        }
    }
}

impl PeakReport {
    fn new(peak: Peak, scale: Scale) -> PeakReport {
        PeakReport { count: scale.of(peak.count), at: moment::write(peak.at), seconds: peak.span.0 as f64 / 1e6 }
    }
}

/// Of all limits: each has those of its own that may be among them.
fn most_refused(limits: &[LimitReport], top: usize) -> Vec<CounterReport> {
    let named = limits.iter().flat_map(|limit| {
        limit.most_refused.iter().map(|counter| CounterReport { limit_id: limit.limit_id.clone(), ..counter.clone() })
    });
    let mut all: Vec<CounterReport> = named.collect();
    all.sort_by(|one, other| {
        let named = |counter: &CounterReport| (counter.limit_id.clone(), counter.descriptor.clone());
        other.requests.cmp(&one.requests).then_with(|| named(one).cmp(&named(other)))
    });
    all.truncate(top);
    all
}

fn listed(ranking: Ranking) -> Vec<CounterReport> {
    let report = |ranked: Ranked| CounterReport {
        limit_id: ranked.counter.limit_id.to_string(),
        descriptor: ranked.counter.descriptor.into(),
        requests: ranked.count.into(),
    };
    ranking.first().into_iter().map(report).collect()
}
