use super::*;

#[test]
fn a_mapping_to_the_references_own_names_is_none_to_warn_of() {
    let own = "mappings:\n  - match: a.*\n    name: \"ratelimit_service_rate_limit_near_limit\"\n    labels:\n      domain: $1\n";
    assert_eq!(foreign_name(own), None);
    assert_eq!(foreign_name(&format!("{own}  - name: my_limits\n    match: b.*\n")), Some("my_limits"));
    assert_eq!(foreign_name(""), None);
}
