//! Decisions of limits that deny a share of clients: who is in, who is out, and that this stays so.

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::{
    overrides::with_run_time,
    switches::{ENDS, switch_of},
    *,
};
use crate::{
    limit::{ClientPart, EnforcedShare},
    run_time::switches::{ALL, SwitchMode},
};

/// Clients' names are drawn with it.
const SEED: u64 = 24;

/// Each client is refused at once, where the limit may refuse.
const RULES: &str = "
domain: api
tiers: {tried: {requests: 0, window: 1m, enforce: SHARE}}
descriptors:
  - key: user
    rate_limit: {requests: 0, window: 1m, ALGORITHM, enforce: SHARE}
    overrides:
      - {match: {user: exempt}, limit: {requests: 0, window: 1m, enforce: false}}
      - {match: {user: certain}, limit: {requests: 0, window: 1m}}
      - {match: {user: member}, limit: {tier: tried}}
  - key: generic_key
    value: checkout
    descriptors:
      - {key: user, rate_limit: {name: new, requests: 0, window: 1h, enforce: SHARE}}
  - key: path
    value: /a/*
    share_threshold: true
    descriptors:
      - {key: user, quota_mode: true, rate_limit: {requests: 0, window: 1h, enforce: SHARE}}
  - key: trial
    shadow_mode: true
    quota_mode: true
    rate_limit: 0/h
  - {key: global, value: all, rate_limit: 0/h}
";

fn rules(share: &str) -> String {
    RULES.replace("SHARE", share).replace("ALGORITHM", "algorithm: sliding_window")
}

fn share(text: &str) -> EnforcedShare {
    EnforcedShare::parse(text).expect("a share")
}

fn clients() -> Vec<String> {
    let mut random = SmallRng::seed_from_u64(SEED);
    (0..2_000).map(|at| format!("client-{at}-{:x}", random.random::<u32>())).collect()
}

impl Asked {
    fn refuses(&self, text: &str) -> bool {
        self.ask_at(descriptor(text), NOW).overall == Code::OverLimit
    }

    fn enforce(&self, target: &str, text: &str) {
        let overrides = &self.limiter.run_time().expect("it was given one").overrides;
        overrides.switch_here("api", target, Some(switch_of(target, SwitchMode::Enforce(share(text)))));
    }
}

#[test]
fn who_is_denied_is_the_same_whatever_the_window_and_the_algorithm_and_a_larger_share_only_adds_clients() {
    let clients = clients();
    let mut before = vec![false; clients.len()];
    for text in ["false", "1%", "10%", "60%", "true"] {
        let rules = rules(text);
        let asked = asked(&rules, MODES);
        let others = [
            rules.replace("algorithm: sliding_window", "algorithm: token_bucket"),
            rules.replace("window: 1m, algorithm", "window: 7d, algorithm"),
        ];
        let others = others.map(|rules| super::asked(&rules, MODES));
        let denied: Vec<bool> = clients.iter().map(|client| asked.refuses(&format!("user={client}"))).collect();
        for other in &others {
            let same = clients.iter().map(|client| other.refuses(&format!("user={client}")));
            assert!(same.eq(denied.iter().copied()), "{text}");
        }
        assert!(before.iter().zip(&denied).all(|(was, is)| !was || *is), "{text} loses a client");
        if let Ok(share) = EnforcedShare::parse(text) {
            let inside = |client: &String| share.contains(ClientPart::of("api/user", "user", client));
            assert!(clients.iter().map(inside).eq(denied.iter().copied()), "{text}");
        }
        before = denied;
    }
    assert!(before.iter().all(|denied| *denied));
}

#[test]
fn a_client_is_told_apart_by_the_first_entry_that_may_have_any_value_and_is_not_shared() {
    let asked = asked(&rules("50%"), MODES);
    for client in clients().iter().take(200) {
        let is_in = |limit_id: &str| share("50%").contains(ClientPart::of(limit_id, "user", client));
        let checkout = asked.refuses(&format!("generic_key=checkout,user={client}"));
        assert_eq!(checkout, is_in("api/generic_key=checkout/user#new"), "{client}");
        for path in ["/a/x", "/a/y"] {
            let shared = asked.refuses(&format!("path={path},user={client}"));
            assert_eq!(shared, is_in("api/path=%2Fa%2F*/user"), "{client} {path}");
        }
    }
}

#[test]
fn who_is_outside_is_counted_and_reported_as_a_shadow() {
    let asked = asked(&rules("10%"), Modes { notes: true, ..MODES });
    let clients = clients();
    let is_in = |client: &&String| share("10%").contains(ClientPart::of("api/user", "user", client));
    let outside = clients.iter().find(|client| !is_in(client)).expect("nine of ten");
    let inside = clients.iter().find(is_in).expect("one of ten");
    let decision = asked.ask_at(descriptor(&format!("user={outside}")), NOW);
    assert_eq!((decision.overall, decision.statuses[0].code), (Code::Ok, Code::Ok));
    assert_eq!(decision.statuses[0].remaining, 0, "its counter is told");
    assert_eq!(asked.ask_at(descriptor(&format!("user={inside}")), NOW).overall, Code::OverLimit);
    for result in ["shadow", "over_limit"] {
        let row = format!(r#"tollgate_decisions_total{{domain="api",limit="api/user",result="{result}"}} 1"#);
        assert!(asked.metrics().contains(&row), "{}", asked.metrics());
    }
}

#[test]
fn an_override_says_for_itself_whom_it_denies_and_clients_are_told_apart_by_the_rules_limit() {
    let asked = asked(&rules("1%"), MODES);
    assert_eq!(["exempt", "certain"].map(|user| asked.refuses(&format!("user={user}"))), [false, true]);
    // The same tier for a member, with another share, is in its part with the rule's limit.
    let part = ClientPart::of("api/user", "user", "member");
    for text in ["0.01%", "25%", "50%", "75%", "99.99%"] {
        let denied = super::asked(&rules(text), MODES).refuses("user=member");
        assert_eq!(denied, share(text).contains(part), "{text}: part {}", part.number());
    }
}

#[test]
fn a_switch_says_whom_a_limit_denies_whatever_its_rule_says_until_it_ends() {
    let asked = with_run_time(&rules("false"), &[("set", "0/m", None)]);
    let clients = clients();
    let denied = |asked: &Asked| clients.iter().filter(|client| asked.refuses(&format!("user={client}"))).count();
    assert_eq!(denied(&asked), 0);
    let mut before = 0;
    for text in ["1%", "10%", "50%", "100%"] {
        asked.enforce("api/user", text);
        let inside = |client: &&String| share(text).contains(ClientPart::of("api/user", "user", client));
        let now = denied(&asked);
        assert_eq!(now, clients.iter().filter(inside).count(), "{text}");
        assert!(now > before);
        before = now;
    }
    assert!(!asked.refuses("user=exempt"), "an override that denies nobody exempts its client from the rollout");
    assert!(asked.refuses("user=set"), "whom an override at run time is for is a client too");
    asked.enforce("api/user", "0%");
    assert_eq!(denied(&asked), 0);
    assert!(!asked.refuses("user=set"));
    assert_eq!(asked.ask_at(descriptor("user=certain"), ENDS).overall, Code::OverLimit, "at its end the rules hold");
}

#[test]
fn a_switch_enforces_a_rule_in_shadow_mode_for_its_share_also_as_a_quota() {
    let asked = with_run_time(&rules("false"), &[]);
    let clients = clients();
    assert!(!asked.refuses("trial=x"));
    asked.enforce("api/trial", "40%");
    for client in clients.iter().take(100) {
        let inside = share("40%").contains(ClientPart::of("api/trial", "trial", client));
        assert_eq!(asked.refuses(&format!("trial={client}")), inside, "{client}");
    }
}

#[test]
fn a_limit_whose_clients_can_not_be_told_apart_denies_nobody_under_a_share() {
    let asked = with_run_time(&rules("false"), &[]);
    assert!(asked.refuses("global=all"));
    asked.enforce(ALL, "99%");
    assert!(!asked.refuses("global=all"), "it would be all or nothing");
    let own = || Descriptor { limit: Some((0, Unit::Day)), ..descriptor("user=b") };
    assert_eq!(asked.ask_at(own(), NOW).overall, Code::OverLimit, "what requests bring stays as it is");
    asked.enforce(ALL, "100%");
    assert!(asked.refuses("global=all"));
}
