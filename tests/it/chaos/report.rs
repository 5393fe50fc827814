//! What a log of answers shows: how late, how many errors, how much too much, how long until all was well again. Pure
//! figures of a log; what they have to be stands in [`super::run`].

use std::{collections::HashMap, time::Duration};

use super::traffic::{Answer, POLICIES, Verdict, error_policy};

/// Envoy's time for an answer.
const IN_TIME: Duration = Duration::from_millis(20);

/// Without a degraded answer for so long, the store decides again.
const CALM: Duration = Duration::from_millis(500);

pub(super) struct Report {
    pub(super) answers: usize,
    /// By the store, not by a policy.
    pub(super) refused: usize,
    /// Later than [`IN_TIME`] from when they were due.
    pub(super) late: usize,
    pub(super) latest: Duration,
    /// Errors where no policy promises one.
    pub(super) errors: usize,
    /// Answered by a policy in the store's place.
    pub(super) degraded: usize,
    /// By policy: the most that any user had admitted above the limit in one window.
    pub(super) excess: HashMap<&'static str, usize>,
    /// From the fault's end until the store decided again.
    pub(super) recovery: Duration,
}

/// A limit as the checks need it.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    pub(super) requests: usize,
    pub(super) window: Duration,
}

impl Report {
    /// `over`: when the fault was over.
    pub(super) fn of(log: &[Answer], bound: Bound, over: Duration) -> Report {
        let delays = || log.iter().map(|answer| answer.answered - answer.due);
        let failed = |answer: &&Answer| matches!(answer.verdict, Verdict::Failed(_)) && answer.policy != error_policy();
        Report {
            answers: log.len(),
            refused: log.iter().filter(|answer| answer.verdict == Verdict::Denied && !answer.degraded).count(),
            late: delays().filter(|delay| *delay > IN_TIME).count(),
            latest: delays().max().unwrap_or_default(),
            errors: log.iter().filter(failed).count(),
            degraded: log.iter().filter(|answer| answer.degraded).count(),
            excess: (0..POLICIES.len()).map(|policy| (POLICIES[policy], excess(log, policy, bound))).collect(),
            recovery: recovery(log, over),
        }
    }
}

/// The most that one user of a policy had admitted above the limit, in a window that surely holds all of it: from when the
/// first was sent to when the last was answered.
fn excess(log: &[Answer], policy: usize, bound: Bound) -> usize {
    let mut by_user: HashMap<u64, Vec<(Duration, Duration)>> = HashMap::new();
    for answer in log.iter().filter(|answer| answer.policy == policy && answer.verdict == Verdict::Admitted) {
        if let Some(user) = answer.hot_user {
            by_user.entry(user).or_default().push((answer.sent, answer.answered));
        }
    }
    let most = |mut admitted: Vec<(Duration, Duration)>| {
        admitted.sort();
        let within = |from: usize| {
            let end = admitted[from].0 + bound.window;
            admitted[from..].iter().take_while(|(sent, _)| *sent < end).filter(|(_, answered)| *answered < end).count()
        };
        (0..admitted.len()).map(within).max().unwrap_or(0)
    };
    by_user.into_values().map(most).max().unwrap_or(0).saturating_sub(bound.requests)
}

/// Until the last degraded answer before the first calm stretch.
fn recovery(log: &[Answer], over: Duration) -> Duration {
    let mut last = over;
    for answer in log.iter().filter(|answer| answer.degraded && answer.due >= over) {
        if answer.due > last + CALM {
            break;
        }
        last = answer.due;
    }
    last - over
}

#[test]
fn a_window_is_overfull_only_where_all_of_it_surely_lay_within() {
    let bound = Bound { requests: 2, window: Duration::from_secs(1) };
    let at = |sent: u64, answered: u64| Answer {
        policy: 1,
        hot_user: Some(0),
        due: Duration::from_millis(sent),
        sent: Duration::from_millis(sent),
        answered: Duration::from_millis(answered),
        verdict: Verdict::Admitted,
        degraded: false,
    };
    assert_eq!(excess(&[at(0, 1), at(500, 501), at(998, 999)], 1, bound), 1);
    assert_eq!(excess(&[at(0, 1), at(500, 501), at(998, 1_001)], 1, bound), 0, "the last may have been later");
    assert_eq!(excess(&[at(0, 1), at(500, 501), at(1_000, 1_001)], 1, bound), 0);
}

#[test]
fn recovery_ends_with_the_last_degraded_answer_before_a_calm() {
    let at = |due: u64, degraded: bool| Answer {
        policy: 0,
        hot_user: None,
        due: Duration::from_millis(due),
        sent: Duration::from_millis(due),
        answered: Duration::from_millis(due),
        verdict: Verdict::Admitted,
        degraded,
    };
    let log = [at(900, true), at(1_100, true), at(1_300, true), at(1_400, false), at(2_500, true)];
    assert_eq!(recovery(&log, Duration::from_millis(1_000)), Duration::from_millis(300));
    assert_eq!(recovery(&log[3..4], Duration::from_millis(1_000)), Duration::ZERO);
}
