use super::*;

fn at(seconds: u64) -> UnixMicros {
    UnixMicros(seconds * SECOND.0)
}

#[test]
fn a_line_is_due_at_first_and_then_a_minute_later_or_when_the_clock_was_set_back() {
    let paced = LogThrottle::default();
    let due: Vec<bool> = [1_000, 1_000, 1_059, 1_060, 1_061, 900, 901].map(|seconds| paced.is_due(at(seconds))).into();
    assert_eq!(due, [true, false, false, true, false, true, false]);
}

#[test]
fn a_line_says_how_many_events_have_had_none_since_the_last() {
    let events = PacedEvents::default();
    let lines = [(1_000, 1), (1_001, 1), (1_059, 5), (1_060, 1), (1_061, 2), (1_120, 7)]
        .map(|(seconds, times)| events.happened(times, at(seconds)));
    assert_eq!(lines, [Some(0), None, None, Some(6), None, Some(2)]);
}
