use super::*;

fn totals(counters: &[(&str, u64)], response_times: &[(usize, u64)]) -> StatsdTotals {
    let counters = counters.iter().map(|(name, count)| (name.to_string(), *count)).collect();
    let mut totals = StatsdTotals { counters, ..StatsdTotals::default() };
    for (bucket, count) in response_times {
        totals.response_times.buckets[*bucket] = *count;
    }
    totals
}

fn tag(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn only_what_grew_is_sent_and_by_how_much() {
    let dialect = Dialect::StatsD { tags: Vec::new() };
    let (last, now) = (totals(&[("a", 2), ("b", 5)], &[(3, 1)]), totals(&[("a", 2), ("b", 7), ("c", 1)], &[(3, 1)]));
    assert_eq!(dialect.lines(&now, &last), ["b:2|c\n", "c:1|c\n"]);
}

#[test]
fn a_counter_that_began_afresh_is_sent_whole() {
    let dialect = Dialect::StatsD { tags: Vec::new() };
    assert_eq!(dialect.lines(&totals(&[("a", 3)], &[]), &totals(&[("a", 9)], &[])), ["a:3|c\n"]);
}

#[test]
fn response_times_are_a_line_for_each_bucket_sampled_by_its_requests() {
    let dialect = Dialect::StatsD { tags: Vec::new() };
    let lines = dialect.lines(&totals(&[], &[(3, 5), (9, 1), (21, 1)]), &totals(&[], &[(3, 1)]));
    let times = "ratelimit_server.ShouldRateLimit.response_time";
    assert_eq!(lines, [format!("{times}:0.05|ms|@0.25\n"), format!("{times}:5|ms\n"), format!("{times}:10000|ms\n")]);
}

#[test]
fn tags_stand_in_the_name_for_statsd_and_behind_the_value_for_dogstatsd() {
    let tags = vec![tag("env", "a.b"), tag("zone", "x")];
    let now = totals(&[("a.hits", 1)], &[]);
    let lines = Dialect::StatsD { tags: tags.clone() }.lines(&now, &StatsdTotals::default());
    assert_eq!(lines, ["a.hits.__env=a_b.__zone=x:1|c\n"]);
    let lines = Dialect::DogStatsD { tags, rewritings: Vec::new() }.lines(&now, &StatsdTotals::default());
    assert_eq!(lines, ["a.hits:1|c|#env:a.b,zone:x\n"]);
}

#[test]
fn the_first_rewriting_that_matches_is_applied() {
    let rewriting = |pattern: &str, name: &str, tags: &[(&str, &str)]| Rewriting {
        pattern: Regex::new(pattern).unwrap(),
        name: name.to_owned(),
        tags: tags.iter().map(|(key, value)| tag(key, value)).collect(),
    };
    let rewritings = vec![
        rewriting("^no$", "never", &[]),
        rewriting(
            r"^ratelimit\.service\.rate_limit\.(.*)\.(.*)\.(.*)$",
            "ratelimit.service.rate_limit.$3",
            &[("domain", "$1"), ("descriptor", "$2")],
        ),
        rewriting(".*", "too_late", &[]),
    ];
    let name = "ratelimit.service.rate_limit.mongo_cps.database_users.within_limit";
    let lines = Dialect::DogStatsD { tags: vec![tag("env", "x")], rewritings }
        .lines(&totals(&[(name, 4)], &[]), &StatsdTotals::default());
    assert_eq!(
        lines,
        ["ratelimit.service.rate_limit.within_limit:4|c|#env:x,domain:mongo_cps,descriptor:database_users\n"]
    );
}

#[test]
fn gauges_are_sent_each_time_also_where_they_stay() {
    let dialect = Dialect::StatsD { tags: Vec::new() };
    let now = StatsdTotals { gauges: [("a.open".to_owned(), 0)].into(), ..StatsdTotals::default() };
    assert_eq!(dialect.lines(&now, &now), ["a.open:0|g\n"]);
}

#[test]
fn what_is_sampled_is_counted_whole_by_who_takes_the_whole_part() {
    let large = [31_623, 65_537, 99_999, 1_000_003, 16_777_213, 999_999_937, 4_294_967_291];
    for times in (2..=100_000).chain(large) {
        let text = rate(times);
        let number: f64 = text.parse().expect("a number");
        // As statsd_exporter does, in Go: `int(1 / samplingFactor)`.
        assert_eq!((1.0 / number) as u64, times, "{text}");
    }
    assert_eq!([2, 3, 6, 11].map(rate), ["0.5", "0.333333333333", "0.166666666666", "0.090909090909"]);
}

/// What statsd_exporter takes a line for: `int(1 / samplingFactor)` in Go, which is double precision, cut off; 1 without a
/// rate.
fn counted_by_the_exporter(line: &str) -> u64 {
    let rate = line.trim_end().split('|').find_map(|part| part.strip_prefix('@'));
    rate.map_or(1, |rate| (1.0 / rate.parse::<f64>().expect("a number")) as u64)
}

#[test]
fn each_number_of_response_times_is_counted_whole_from_its_line() {
    let dialects = [
        Dialect::StatsD { tags: Vec::new() },
        Dialect::DogStatsD { tags: vec![tag("env", "x")], rewritings: Vec::new() },
    ];
    let large = [4_097, 9_999, 65_537, 1_000_003, 16_777_217, 999_999_937, 4_294_967_297];
    for dialect in dialects {
        for times in (1..=1_000).chain(large) {
            let lines = dialect.lines(&totals(&[], &[(3, times)]), &StatsdTotals::default());
            let counted: u64 = lines.iter().map(|line| counted_by_the_exporter(line)).sum();
            assert_eq!(counted, times, "{lines:?}");
        }
    }
}
