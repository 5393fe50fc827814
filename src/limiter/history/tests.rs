//! The hour of a replica: what a slot holds, how long it is kept, and how much memory all of it takes.

use std::path::PathBuf;

use super::*;
use crate::{
    limiter::Budgets,
    metrics::{LimitOutcome, Meters},
    rules::{self, Defaults, DomainIndex, LoadedTexts, Source, Sources},
};

const BEGINS: u64 = 1_700_000_000_000_000;

fn seconds(after: u64) -> UnixMicros {
    UnixMicros(BEGINS + after * SECOND.0)
}

/// Rules with so many limits, `api/k0` and on.
fn snapshot(limits: usize) -> Arc<Snapshot> {
    let keys = (0..limits).map(|n| format!("  - {{key: k{n}, rate_limit: {{requests: 1, window: 1h}}}}\n"));
    let yaml = format!("domain: api\ndescriptors:\n{}", keys.collect::<String>());
    let file = Source { path: PathBuf::from("rules.yaml"), bytes: yaml.into_bytes() };
    let load = rules::load(&Sources { files: vec![file], ..Sources::default() }, &Defaults::default(), None);
    assert!(!load.problems.has_errors(), "{:?}", load.problems);
    let (meters, budgets) = (Meters::new(&load.rules, None), Budgets::new(&load.rules, None));
    let (rules, problems, kept_domains) = (load.rules, load.problems, load.kept_domains);
    Arc::new(Snapshot {
        version: 1,
        rules,
        meters,
        budgets,
        problems,
        kept_domains,
        texts: LoadedTexts::default(),
        loaded_at: seconds(0),
    })
}

fn refuse(snapshot: &Snapshot, limit: usize, times: usize) {
    let rule = &snapshot.rules.domains()[0].rules()[limit];
    for _ in 0..times {
        snapshot.meters.count(DomainIndex(0), rule, Some(0), LimitOutcome::OverLimit);
    }
}

fn hash(snapshot: &Snapshot, limit: usize) -> u64 {
    snapshot.rules.domains()[0].rules()[limit].limits[0].id_hash
}

#[test]
fn a_slot_holds_rates_a_second_and_the_one_that_has_begun_is_the_last() {
    let (history, metrics, snapshot) = (HourHistory::default(), Metrics::default(), snapshot(2));
    let limit = Some(hash(&snapshot, 1));
    assert_eq!(history.read(limit, seconds(0), &metrics, &snapshot), HourView::default(), "nothing was read yet");
    history.sample(seconds(0), &metrics, &snapshot);
    for _ in 0..30 {
        metrics.decided(crate::limit::Code::OverLimit);
    }
    refuse(&snapshot, 1, 30);
    history.sample(seconds(10), &metrics, &snapshot);
    refuse(&snapshot, 1, 8);
    let view = history.read(limit, seconds(14), &metrics, &snapshot);
    assert_eq!(view.begins, seconds(0));
    let requests: Vec<f32> = view.slots.iter().map(|slot| slot.requests).collect();
    assert_eq!(requests, [3.0, 0.0]);
    assert_eq!(view.slots[0].refused, 3.0);
    let refused: Vec<f32> = view.limit.iter().map(|slot| slot.expect("it is known").refused).collect();
    assert_eq!(refused, [3.0, 2.0]);
    let rates = history.rates(seconds(14), &metrics, &snapshot);
    assert_eq!(rates.len(), 1, "the other limit decided nothing");
    assert_eq!(rates[&hash(&snapshot, 1)].refused, 38.0 / 14.0);
}

#[test]
fn an_hour_is_kept_and_what_was_not_read_is_a_gap_of_zeros() {
    let (history, metrics, snapshot) = (HourHistory::default(), Metrics::default(), snapshot(1));
    for slot in (0..1_000).filter(|slot| *slot != 900) {
        history.sample(seconds(slot * 10), &metrics, &snapshot);
        metrics.decided(crate::limit::Code::Ok);
    }
    let view = history.read(None, seconds(9_990), &metrics, &snapshot);
    assert_eq!(view.slots.len(), SLOTS);
    assert_eq!(view.begins, seconds(9_990 - 10 * SLOTS as u64));
    assert_eq!(view.slots.iter().filter(|slot| slot.requests == 0.0).count(), 1, "the slot that ended unread");
    assert!(view.limit.is_empty());
}

#[test]
fn it_takes_a_mebibyte_at_most_however_many_limits_refuse() {
    let (history, metrics) = (HourHistory::default(), Metrics::default());
    let snapshot = snapshot(LIMITS_MAX + 100);
    for slot in 0..2 * SLOTS as u64 {
        for limit in 0..2 * LIMITS_OF_SLOT {
            refuse(&snapshot, limit, limit + 1);
        }
        history.sample(seconds(slot * 10), &metrics, &snapshot);
    }
    let bytes = history.bytes();
    assert!((BYTES_MAX / 2..BYTES_MAX).contains(&bytes), "{bytes}");
    // Those that refuse most are kept.
    let of = |limit| history.read(Some(hash(&snapshot, limit)), seconds(7_230), &metrics, &snapshot).limit[5];
    let refused = |limit| of(limit).map(|rates| rates.refused);
    assert_eq!((refused(2 * LIMITS_OF_SLOT - 1), refused(0)), (Some(9.6), None), "what isn't kept isn't known");
}

#[test]
fn minutes_of_limits_are_means_of_their_slots_and_unknown_where_others_were_busier() {
    let (history, metrics, snapshot) = (HourHistory::default(), Metrics::default(), snapshot(LIMITS_OF_SLOT + 1));
    let limits: Vec<u64> = (0..=LIMITS_OF_SLOT).map(|limit| hash(&snapshot, limit)).collect();
    assert!(history.minutes(&limits).is_empty(), "nothing was read yet");
    // So that the first slot is the first of its minute.
    let begins = 60 - BEGINS / SECOND.0 % 60;
    history.sample(seconds(begins), &metrics, &snapshot);
    for slot in 1..=6 {
        refuse(&snapshot, 0, if slot == 2 { 120 } else { 0 });
        history.sample(seconds(begins + slot * 10), &metrics, &snapshot);
    }
    let refused = |limit: usize, history: &HourHistory| -> Vec<Option<f32>> {
        let minutes = history.minutes(&limits);
        minutes.get(&limits[limit]).map_or(Vec::new(), |of| of.iter().map(|of| of.map(|of| of.refused)).collect())
    };
    assert_eq!(refused(0, &history), [Some(2.0)], "12 a second in one slot of six");
    assert_eq!(refused(1, &history), [], "one that did nothing is left out");
    // A minute of which one slot is full of others, and then one that is nothing else.
    for slot in 7..=18 {
        (1..=LIMITS_OF_SLOT).for_each(|limit| refuse(&snapshot, limit, if slot == 8 || slot > 12 { 20 } else { 0 }));
        history.sample(seconds(begins + slot * 10), &metrics, &snapshot);
    }
    assert_eq!(refused(0, &history), [Some(2.0), Some(0.0), None]);
    assert_eq!(refused(1, &history), [Some(0.0), Some(2.0 / 6.0), Some(2.0)]);
    // An hour is kept, by whole minutes.
    for slot in 19..=400 {
        refuse(&snapshot, 2, 10);
        history.sample(seconds(begins + slot * 10), &metrics, &snapshot);
    }
    let of = refused(2, &history);
    assert_eq!((of.len() as u64, of[0], of[59]), (MINUTES, Some(1.0), Some(1.0)));
}
