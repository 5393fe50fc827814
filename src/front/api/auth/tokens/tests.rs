use sha2::{Digest as _, Sha256};

use super::*;

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn line(name: &str, token: &str, scopes: &str) -> String {
    let hex: String = digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}:{hex}:{scopes}\n")
}

#[test]
fn a_token_is_found_by_its_digest_and_no_other_is() {
    let text =
        line("ops", "first", "*") + "\n# a note\n" + &line("ops", "second", "check") + &line("ci", "third", "explain");
    let tokens = Tokens::parse(&text).expect("a good file");
    assert_eq!(tokens.len(), 3);
    for (token, name) in
        [("first", Some("ops")), ("second", Some("ops")), ("third", Some("ci")), ("", None), ("firs", None)]
    {
        assert_eq!(tokens.find(&digest(token)).as_ref().map(|caller| &*caller.name), name, "{token}");
    }
    assert!(Tokens::default().find(&digest("first")).is_none());
}

#[test]
fn scopes_hold_in_their_domains_and_who_writes_may_read() {
    let caller = |scopes: &str| {
        Tokens::parse(&line("t", "x", scopes)).expect("a good file").find(&digest("x")).expect("it is there")
    };
    let may = |scopes: &str, scope, domain| caller(scopes).require(scope, domain).is_ok();
    assert!(may("overrides.write", Scope::OverridesWrite, Some("checkout")));
    assert!(may("overrides.write", Scope::OverridesRead, None));
    assert!(!may("overrides.read", Scope::OverridesWrite, Some("checkout")));
    assert!(may("overrides.write@checkout", Scope::OverridesRead, Some("checkout")));
    assert!(!may("overrides.write@checkout", Scope::OverridesWrite, Some("api")));
    assert!(!may("audit.read@checkout", Scope::AuditRead, None), "one domain isn't all");
    assert!(may("*", Scope::AuditRead, None) && may("*@api", Scope::Check, Some("api")));
    assert!(!may("*@api", Scope::Check, Some("checkout")));
    // The newer names, of which the older ones are parts.
    for (scopes, scope) in [
        ("limits.write@api", Scope::OverridesWrite),
        ("limits.write@api", Scope::OverridesRead),
        ("insight.read@api", Scope::Explain),
        ("insight.read@api", Scope::OverridesRead),
        ("rules.read@api", Scope::RulesRead),
    ] {
        assert!(may(scopes, scope, Some("api")), "{scopes} {scope:?}");
        assert!(!may(scopes, scope, Some("checkout")) && !may(scopes, scope, None), "{scopes} {scope:?}");
    }
    for (scopes, scope) in [
        ("overrides.write", Scope::LimitsWrite),
        ("limits.write", Scope::CountersReset),
        ("insight.read", Scope::OverridesWrite),
        ("insight.read", Scope::AuditRead),
        ("explain", Scope::InsightRead),
        ("rules.read", Scope::InsightRead),
    ] {
        assert!(!may(scopes, scope, Some("api")), "{scopes} {scope:?}");
    }
    for scope in Scope::ALL {
        assert!(may(scope.name(), scope, None) && may("*", scope, None), "{scope:?}");
    }
    let refused = caller("check").require(Scope::OverridesWrite, Some("api")).unwrap_err();
    assert_eq!(refused.to_string(), "token t lacks the scope overrides.write or overrides.write@api");
}

#[test]
fn every_bad_line_is_named_and_nothing_of_a_token_is_told() {
    let secret = "hunter2hunter2hunter2hunter2";
    let good = line("ok", "x", "check");
    let bad = [
        "no-colon".to_owned(),
        format!("ops:{secret}:check"),
        format!("{secret} {secret}:{}:check", "0".repeat(64)),
        format!("ops:{}:", "0".repeat(64)),
        format!("ops:{}:overrides.wrte", "0".repeat(64)),
        format!("ops:{}:check@", "0".repeat(64)),
        format!("ops:{}é:check", "0".repeat(62)),
    ];
    let Err(error) = Tokens::parse(&(good.clone() + &bad.join("\n") + "\n" + &good)) else { panic!("it was taken") };
    assert_eq!(error.0.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8, 9]);
    let said = error.to_string();
    assert!(!said.contains(secret), "{said}");
    assert!(said.contains("line 6: there is no scope `overrides.wrte`"), "{said}");
}
