//! Decisions under switches: what each mode does to which limits, and when it ends.

use super::{overrides::with_run_time, *};
use crate::run_time::switches::{ALL, Switch, SwitchMode};

const RULES: &str = "
domain: api
descriptors:
  - key: user
    rate_limit: [{name: minute, requests: 2, window: 1m}, {name: hour, requests: 5, window: 1h}]
    overrides: [{match: {user: on-disk}, limit: {name: minute, requests: 3, window: 1m}}]
    descriptors:
      - {key: path, switchable: false, rate_limit: 1/m}
";

pub(super) const ENDS: UnixMicros = UnixMicros(NOW.0 + 60_000_000);

fn switched(switches: &[(&str, SwitchMode)]) -> Asked {
    let asked = with_run_time(RULES, &[("set", "4/m", None)]);
    for (target, mode) in switches {
        asked.switch(target, *mode);
    }
    asked
}

pub(super) fn switch_of(target: &str, mode: SwitchMode) -> Switch {
    let (reason, by) = ("ticket 42".into(), "ops".into());
    Switch { target: target.into(), mode, ends: ENDS, reason, by, at: NOW, version: 0 }
}

impl Asked {
    fn switch(&self, target: &str, mode: SwitchMode) {
        let overrides = &self.limiter.run_time().expect("it was given one").overrides;
        overrides.switch_here("api", target, Some(switch_of(target, mode)));
    }

    fn passes(&self, text: &'static str, at: UnixMicros) -> usize {
        (0..20).take_while(|_| self.ask_at(descriptor(text), at).overall == Code::Ok).count()
    }
}

#[test]
fn a_limit_that_is_off_is_not_even_counted() {
    let asked = switched(&[("api/user#minute", SwitchMode::Off)]);
    assert_eq!(asked.passes("user=a", NOW), 5, "the other limit of the rule stays");
    assert_eq!(asked.ask_at(descriptor("user=b"), NOW).statuses[0].limit.as_ref().map(|limit| limit.requests), Some(5));
    assert_eq!(asked.passes("user=b", UnixMicros(ENDS.0 + 1)), 2, "at its end the limit counts from nothing");
}

#[test]
fn a_shadow_counts_and_denies_nobody() {
    let asked = switched(&[("api/user#minute", SwitchMode::Shadow), ("api/user#hour", SwitchMode::Shadow)]);
    assert_eq!(asked.passes("user=a", NOW), 20);
    let row = |limit: &str| format!(r#"tollgate_decisions_total{{domain="api",limit="{limit}",result="shadow"}} 18"#);
    assert!(asked.metrics().contains(&row("api/user#minute")), "{}", asked.metrics());
    assert_eq!(asked.passes("user=a", ENDS), 0, "at its end what it counted holds");
}

#[test]
fn a_scaled_limit_goes_on_with_its_counter_and_leaves_overrides_of_run_time_alone() {
    let asked = switched(&[("api/user#minute", SwitchMode::Scale(2.0)), ("api/user#hour", SwitchMode::Scale(100.0))]);
    assert_eq!(["user=a", "user=on-disk", "user=set"].map(|user| asked.passes(user, NOW)), [4, 6, 4]);
    let fewer = switched(&[]);
    assert_eq!(fewer.passes("user=a", NOW), 2);
    fewer.switch("api/user#minute", SwitchMode::Scale(2.0));
    assert_eq!(fewer.passes("user=a", NOW), 2, "two of four were counted before");
}

#[test]
fn a_rules_switch_holds_for_all_its_limits() {
    let asked = switched(&[("api/user", SwitchMode::Shadow)]);
    assert_eq!(["user=a", "user=on-disk", "user=set"].map(|user| asked.passes(user, NOW)), [20, 20, 20]);
    assert_eq!(asked.passes("user=a,path=/x", NOW), 1, "but not for those of the rules below it");
}

#[test]
fn a_domains_switch_holds_for_all_but_what_has_its_own_or_is_protected() {
    let asked = switched(&[(ALL, SwitchMode::Shadow), ("api/user#hour", SwitchMode::Scale(2.0))]);
    assert_eq!(asked.passes("user=a", NOW), 10);
    assert_eq!(asked.passes("user=a,path=/x", NOW), 1, "switchable: false");
    let own = || Descriptor { limit: Some((1, Unit::Day)), ..descriptor("user=b") };
    assert_eq!([0, 1].map(|_| asked.ask_at(own(), NOW).overall), [Code::Ok, Code::Ok], "also what requests bring");
    asked.switch("api/(request)", SwitchMode::Off);
    assert!(asked.ask_at(own(), NOW).statuses[0].limit.is_none());
}
