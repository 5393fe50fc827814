use super::*;
use crate::limit::{Micros, Unit};

fn switch(target: &str, mode: SwitchMode, ends: u64) -> Switch {
    let (reason, by) = ("ticket 42".into(), "ops".into());
    Switch { target: target.into(), mode, ends: UnixMicros(ends), reason, by, at: UnixMicros(1_000_000), version: 7 }
}

#[test]
fn what_is_stored_is_read_as_it_was() {
    let share = EnforcedShare::parse("0.25%").expect("a share");
    let scales = [SwitchMode::Scale(3.0), SwitchMode::Scale(0.25)];
    for mode in [SwitchMode::Off, SwitchMode::Shadow, SwitchMode::Enforce(share)].into_iter().chain(scales) {
        let made = switch("api/user#hourly", mode, 5_000_000);
        let id = stored_id(&made.target);
        assert_eq!(id, "!api/user#hourly");
        assert_eq!(Switch::read(&id, 7, &made.write()), Some(made));
    }
}

#[test]
fn what_a_newer_release_stored_is_no_switch() {
    let record = switch("api/user", SwitchMode::Off, 5_000_000).write();
    for newer in [record.replace("off", "throttle"), record.replace("\"mode\"", "\"kind\""), "{}".into(), "x".into()] {
        assert_eq!(Switch::read("!api/user", 7, &newer), None, "{newer}");
    }
    assert_eq!(Switch::read("user:alice", 7, &record), None, "an override's id");
}

#[test]
fn a_limits_own_switch_comes_before_its_rules_and_the_domains_until_it_ends() {
    let mut switches = Switches::default();
    switches.put(switch(ALL, SwitchMode::Shadow, 100));
    switches.put(switch("api/user", SwitchMode::Off, 70));
    switches.put(switch("api/user#hourly", SwitchMode::Scale(2.0), 50));
    let at = |limit: &str, rule: &str, now: u64| switches.of(limit, rule, || UnixMicros(now)).map(|found| found.mode);
    assert_eq!(at("api/user#hourly", "api/user", 49), Some(SwitchMode::Scale(2.0)));
    assert_eq!(at("api/user#hourly", "api/user", 50), Some(SwitchMode::Off));
    assert_eq!(at("api/user#hourly", "api/user", 70), Some(SwitchMode::Shadow));
    assert_eq!(at("api/other", "api/other", 49), Some(SwitchMode::Shadow));
    assert_eq!(at("api/other", "api/other", 100), None);
}

#[test]
fn scaling_keeps_the_counter_and_what_it_can_count() {
    let limit = Limit::new(10, Unit::Minute.window(), Algorithm::TokenBucket);
    assert_eq!(scaled(limit, 3.0), Limit { requests: 30, burst: 30, ..limit });
    assert_eq!(scaled(limit, 0.01).requests, 1, "a limit that admitted some admits one");
    assert_eq!(scaled(Limit { requests: 0, ..limit }, 3.0).requests, 0);
    let log = Limit::new(5_000, Micros(1_000_000), Algorithm::SlidingLog);
    assert_eq!(unscalable(&log, 2.0), None);
    assert!(unscalable(&log, 2.001).is_some_and(|why| why.contains("10000")));
    assert!(unscalable(&Limit::new(u32::MAX, Micros(1), Algorithm::FixedWindow), 1.5).is_some());
}

#[test]
fn a_mode_says_what_is_wrong_with_it() {
    for (name, factor, share, says) in [
        ("scale", None, None, "needs a factor"),
        ("scale", Some(0.0), None, "from 0.001 to 1000"),
        ("scale", Some(f64::NAN), None, "from 0.001 to 1000"),
        ("scale", Some(2.0), Some("10%"), "takes no share"),
        ("shadow", Some(2.0), None, "takes no factor"),
        ("off", None, Some("10%"), "takes no share"),
        ("enforce", None, None, "needs a share of clients, such as 10%"),
        ("enforce", Some(2.0), Some("10%"), "takes no factor"),
        ("enforce", None, Some("10"), "`10` is no share of clients: a share is written as 10%"),
        ("of", None, None, "one of off, shadow, scale, enforce"),
    ] {
        let error = SwitchMode::parse(name, factor, share).expect_err("it is wrong");
        assert!(error.contains(says), "{error}");
    }
}
