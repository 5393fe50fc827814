//! A charge that is taken back leaves the counter as one that never had it, whatever came between.

use super::*;

/// What others put to the counter while a charge stands.
fn others(limit: Limit) -> impl Strategy<Value = Vec<Event>> {
    let event = (any_gap(limit), 0i64..5).prop_map(|(gap, hits)| Event { gap, hits, charge_denied: false });
    prop::collection::vec(event, 0..12)
}

/// A counter with a past, how far its clock steps back after it, and what others do meanwhile.
fn any_charge(
    algorithms: &'static [Algorithm],
) -> impl Strategy<Value = ((Limit, Vec<Event>), Vec<Event>, f64, i64, u64)> {
    any_case(prop::sample::select(algorithms)).prop_flat_map(|(limit, past)| {
        let back = prop_oneof![3 => Just(0.0), 1 => 0.0..1.0];
        (Just((limit, past)), others(limit), back, 1i64..6, any_gap(limit))
    })
}

impl Counter {
    fn undo(&mut self, now: u64, hits: i64, charged: UnixMicros) -> Reading {
        let state = std::mem::take(&mut self.state);
        let (state, reading) = undo(&self.limit, state, hits, charged, UnixMicros(now));
        self.state = state;
        reading
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_charge_that_is_taken_back_leaves_no_trace(
        ((limit, past), others, back, hits, gap) in any_charge(&[SlidingWindow, SlidingLog, FixedWindow])
    ) {
        let (mut without, now) = played(limit, &past);
        let mut now = now - (limit.window.0 as f64 * back) as u64;
        // A clock that is a window back sets the counter back, whoever asks first: a charge taken back doesn't undo that.
        without.hit(now, 0);
        let mut with = without.clone();
        let reading = with.hit(now, hits);
        // Nothing remains, and the clock stepped back: the one case in which the place isn't known.
        let is_known = reading.remaining > 0 || back == 0.0;
        if !reading.admitted || !is_known {
            return Ok(());
        }
        let charged = charged_at(&limit, &reading, UnixMicros(now));
        // Room, so that the others are admitted in either case.
        with.limit.requests += 1_000;
        without.limit.requests += 1_000;
        for event in &others {
            now += event.gap;
            with.hit(now, event.hits);
            prop_assert!(without.hit(now, event.hits).admitted);
        }
        now += gap;
        let after = with.undo(now, hits, charged);
        prop_assert_eq!(after, without.look(now, 0));
        // The states differ in when they were last touched; one more hit makes them the same.
        for at in [now, now + limit.window.0 / 3] {
            prop_assert_eq!(with.hit(at, 1), without.hit(at, 1));
            prop_assert_eq!(&with.state, &without.state);
        }
    }

    #[test]
    fn what_has_left_is_not_taken_from_others(
        (limit, past) in any_case(prop::sample::select(&[SlidingWindow, SlidingLog, FixedWindow][..])),
        hits in 1i64..6, ago in 2.1f64..5.0
    ) {
        let (mut counter, now) = played(limit, &past);
        let before = counter.look(now, 0).remaining;
        let long_ago = UnixMicros(now - (limit.window.0 as f64 * ago) as u64 - 2);
        prop_assume!(counter.look(now, 0).admitted);
        prop_assert_eq!(counter.undo(now, hits, long_ago).remaining, before);
    }

    #[test]
    fn a_bucket_gives_back_at_most_what_drained_meanwhile_too_much(
        ((limit, past), others, _, hits, gap) in any_charge(&[TokenBucket, LeakyBucket])
    ) {
        let (mut without, mut now) = played(limit, &past);
        let mut with = without.clone();
        let begun = now;
        let reading = with.hit(now, hits);
        if !reading.admitted {
            return Ok(());
        }
        for counter in [&mut with, &mut without] {
            counter.limit.burst += 1_000;
        }
        for event in &others {
            now += event.gap;
            with.hit(now, event.hits);
            without.hit(now, event.hits);
        }
        now += gap;
        with.undo(now, hits, charged_at(&limit, &reading, UnixMicros(begun)));
        let level = |counter: &mut Counter| {
            counter.hit(now, 1);
            match counter.state {
                State::Bucket { level, .. } => level as f64,
                _ => 0.0,
            }
        };
        let unit = f64::from(1 << 20);
        let drained = (now - begun) as f64 * f64::from(limit.requests) * unit / limit.window.0 as f64;
        // What drains is rounded down once for each hit.
        let rounding = others.len() as f64 + 3.0;
        let (with, without) = (level(&mut with), level(&mut without));
        prop_assert!(with <= without + rounding, "{with} {without}");
        prop_assert!(with + drained.min(hits as f64 * unit) + rounding >= without, "{with} {without}");
        prop_assert!(with <= (f64::from(limit.burst) + 1_000.0 + f64::from(limit.requests)) * unit);
    }
}
