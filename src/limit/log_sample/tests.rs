use super::*;

#[test]
fn a_sample_is_read_as_it_is_written() {
    for text in ["all", "1%", "0.25%", "denied", "denied,1%"] {
        assert_eq!(LogSample::parse(text).expect(text).to_string(), text);
    }
    assert_eq!(LogSample::parse(" denied, 5% ").unwrap().to_string(), "denied,5%");
    assert_eq!(LogSample::parse("5%,denied").unwrap().to_string(), "denied,5%");
}

#[test]
fn what_is_no_sample_is_told_what_there_is() {
    for text in ["", "none", "0%", "100%", "1", "denied,", "denied,all", "denied,denied", "1%,2%", "101%", "-1%"] {
        let refused = LogSample::parse(text).expect_err(text);
        assert!(refused.contains("denied,1%"), "{text}: {refused}");
    }
}
