use super::*;
use crate::limit::{Algorithm, Cost, Entry as Pair, Limit, Reading, SECOND};
use crate::store::{CounterCheck, Gate, Key, Role};

struct Asked<'a> {
    user: &'a str,
    requests: u32,
    hits: i64,
    charge_denied: bool,
    role: Role,
    algorithm: Algorithm,
}

const PLAIN: Asked<'static> = Asked {
    user: "alice",
    requests: 10,
    hits: 1,
    charge_denied: false,
    role: Role::Enforced,
    algorithm: Algorithm::SlidingWindow,
};

fn request(asked: &[Asked<'_>]) -> Request {
    let entries: Vec<[Pair<'_>; 1]> = asked.iter().map(|asked| [Pair { key: "user", value: asked.user }]).collect();
    let checks: Vec<CounterCheck<'_>> = asked
        .iter()
        .zip(&entries)
        .map(|(asked, entries)| CounterCheck {
            key: Key { domain: "d", entries, shared: &[], limit_name: "", variable: 0 },
            rule: 0,
            limit: Limit::new(asked.requests, SECOND, asked.algorithm),
            cost: Cost { hits: asked.hits, charge_denied: asked.charge_denied },
            role: asked.role,
        })
        .collect();
    Request::new(&checks, Gate::default(), false, 0, "", |_| 0)
}

fn key(request: &Request) -> Vec<u8> {
    request.keys().next().unwrap().to_vec()
}

fn refused(reset: u64) -> Readings {
    Readings::from_slice(&[Reading { admitted: false, remaining: 0, reset: Micros(reset) }])
}

/// As the runner does: remembers what denies.
fn keep(denials: &DenialCache, request: Request, readings: &Readings, sent: Instant, generation: u64) {
    if let Some(life) = request.denial_holds(readings) {
        denials.insert(request, readings.clone(), life, DenialTiming { sent, heard: sent, generation });
    }
}

/// Whether a denial of `asked` is remembered.
fn is_kept(asked: &[Asked<'_>], readings: &Readings) -> bool {
    let denials = DenialCache::new(1 << 20);
    keep(&denials, request(asked), readings, Instant::now(), 0);
    denials.find(&request(asked)).is_some()
}

#[test]
fn denial_is_given_again_with_the_time_that_is_left() {
    let denials = DenialCache::new(1 << 20);
    let sent = Instant::now() - Duration::from_millis(100);
    keep(&denials, request(&[PLAIN]), &refused(500_000), sent, 0);
    let reading = denials.find(&request(&[PLAIN])).expect("remembered")[0];
    assert!(!reading.admitted);
    assert!(reading.reset.0 <= 400_000, "{reading:?}");
}

#[test]
fn reset_of_a_remembered_denial_is_never_too_early_though_the_answer_took_long() {
    let denials = DenialCache::new(1 << 20);
    let ago = |ms| Instant::now() - Duration::from_millis(ms);
    let when = DenialTiming { sent: ago(100), heard: ago(40), generation: 0 };
    denials.insert(request(&[PLAIN]), refused(500_000), Duration::from_millis(500), when);
    let reset = denials.find(&request(&[PLAIN])).expect("remembered")[0].reset;
    assert!(
        u128::from(reset.0) + when.heard.elapsed().as_micros() >= 500_000,
        "Redis may have decided just now: {reset:?}"
    );
}

#[test]
fn denial_is_given_only_to_the_same_question() {
    let denials = DenialCache::new(1 << 20);
    keep(&denials, request(&[PLAIN]), &refused(500_000), Instant::now(), 0);
    for other in [
        Asked { user: "bob", ..PLAIN },
        Asked { requests: 11, ..PLAIN },
        Asked { hits: 0, ..PLAIN },
        Asked { charge_denied: true, ..PLAIN },
        Asked { role: Role::Shadow, ..PLAIN },
    ] {
        assert!(denials.find(&request(&[other])).is_none());
    }
}

#[test]
fn dearer_request_is_only_told_a_reset_that_is_its_own() {
    for algorithm in Algorithm::ALL {
        let denials = DenialCache::new(1 << 20);
        let check = |hits| Asked { hits, algorithm, requests: 10, ..PLAIN };
        let find = |hits| {
            let mut asked = request(&[check(hits)]);
            asked.terms[0].limit.burst = 10;
            denials.find(&asked).map(|readings| readings[0])
        };
        let mut kept = request(&[check(3)]);
        kept.terms[0].limit.burst = 10;
        keep(&denials, kept, &refused(500_000), Instant::now() - Duration::from_millis(100), 0);
        for hits in [-1, 0, 1, 2] {
            assert_eq!(find(hits), None, "{algorithm:?}: {hits} may pass");
        }
        assert!(find(3).expect("remembered").reset.0 <= 400_000);
        for hits in [4, 10] {
            // A fixed window ends for all costs at once; of others it isn't known when more would pass.
            let reset = find(hits).map(|reading| (reading.admitted, reading.reset.0 <= 400_000));
            let expected = (algorithm == Algorithm::FixedWindow).then_some((false, true));
            assert_eq!(reset, expected, "{algorithm:?}: {hits}");
        }
        let never = find(11).expect("more than the whole limit can never pass");
        assert_eq!((never.admitted, never.reset), (false, SECOND), "{algorithm:?}");
    }
}

#[test]
fn denials_of_several_costs_are_remembered_beside_each_other() {
    let denials = DenialCache::new(1 << 20);
    let find = |hits| denials.find(&request(&[Asked { hits, ..PLAIN }])).map(|readings| readings[0].reset.0 / 100_000);
    let keep = |hits: i64| {
        let reset = 100_000 * hits as u64 + 50_000;
        keep(&denials, request(&[Asked { hits, ..PLAIN }]), &refused(reset), Instant::now(), 0);
    };
    for hits in [3, 1, 2, 3] {
        keep(hits);
    }
    assert_eq!([1, 2, 3, 4].map(find), [Some(1), Some(2), Some(3), None]);
    assert_eq!(denials.count(), 3, "one for each cost");
    (4..=9).for_each(keep);
    assert_eq!([1, 5, 6, 9].map(find), [None, None, Some(6), Some(9)], "so many, and the newest");
    denials.invalidate(&key(&request(&[PLAIN])));
    assert_eq!([6, 9].map(find), [None, None]);
}

#[test]
fn counter_that_did_not_refuse_answers_for_as_much_as_was_left() {
    let denials = DenialCache::new(1 << 20);
    let asked = |hits| request(&[PLAIN, Asked { user: "bob", hits, ..PLAIN }]);
    let left = Reading { admitted: true, remaining: 4, reset: Micros(9) };
    keep(&denials, asked(2), &Readings::from_slice(&[refused(500_000)[0], left]), Instant::now(), 0);
    for (hits, is_known) in [(-1, false), (0, true), (2, true), (4, true), (5, false)] {
        assert_eq!(denials.find(&asked(hits)).is_some(), is_known, "{hits}");
    }
}

#[test]
fn denial_ends_with_its_reset_counted_from_when_it_was_asked() {
    let denials = DenialCache::new(1 << 20);
    keep(&denials, request(&[PLAIN]), &refused(50_000), Instant::now() - Duration::from_millis(51), 0);
    assert!(denials.find(&request(&[PLAIN])).is_none());
    keep(&denials, request(&[PLAIN]), &refused(60_000_000), Instant::now() - Duration::from_millis(1_001), 0);
    assert!(denials.find(&request(&[PLAIN])).is_none(), "no denial is believed for more than a second");
}

#[test]
fn only_denials_that_will_hold_are_kept() {
    let admitted = Reading { admitted: true, remaining: 3, reset: Micros(9) };
    let denied = Reading { admitted: false, ..admitted };
    let both = |a, b| Readings::from_slice(&[a, b]);
    let bob = || Asked { user: "bob", ..PLAIN };
    assert!(is_kept(&[PLAIN, bob()], &both(Reading { reset: Micros(900_000), ..denied }, admitted)));
    assert!(!is_kept(&[PLAIN], &Readings::from_slice(&[admitted])));
    assert!(!is_kept(&[Asked { role: Role::Shadow, ..PLAIN }], &refused(500_000)), "a shadow denies nothing");
    assert!(!is_kept(&[Asked { role: Role::Quota, ..PLAIN }], &refused(500_000)), "quotas deny only together");
    assert!(!is_kept(&[Asked { charge_denied: true, ..PLAIN }], &refused(500_000)), "it must be charged");
    let gives_back = Asked { hits: -1, ..bob() };
    assert!(!is_kept(&[PLAIN, gives_back], &both(Reading { reset: Micros(900_000), ..denied }, admitted)));
}

#[test]
fn refund_ends_the_denials_of_its_counter_alone() {
    let denials = DenialCache::new(1 << 20);
    let bob = || request(&[Asked { user: "bob", ..PLAIN }]);
    keep(&denials, request(&[PLAIN]), &refused(500_000), Instant::now(), 0);
    keep(&denials, bob(), &refused(500_000), Instant::now(), 0);
    denials.invalidate(&key(&request(&[PLAIN])));
    assert!(denials.find(&request(&[PLAIN])).is_none());
    assert!(denials.find(&bob()).is_some());
}

#[test]
fn answer_from_before_a_refund_is_not_kept_after_it() {
    let denials = DenialCache::new(1 << 20);
    let before = denials.generation();
    denials.invalidate(b"another counter");
    keep(&denials, request(&[PLAIN]), &refused(500_000), Instant::now(), before);
    assert!(denials.find(&request(&[PLAIN])).is_none());
}

#[test]
fn memory_stays_bounded_however_many_are_denied() {
    let denials = DenialCache::new(64 * 1024);
    for user in 0..10_000 {
        let user = user.to_string();
        keep(&denials, request(&[Asked { user: &user, ..PLAIN }]), &refused(500_000), Instant::now(), 0);
        let halves = denials.halves.lock();
        assert!(halves.young.bytes + halves.old.bytes <= 64 * 1024);
    }
    assert!(denials.find(&request(&[Asked { user: "9999", ..PLAIN }])).is_some(), "the newest are there");
    assert!(denials.find(&request(&[Asked { user: "0", ..PLAIN }])).is_none(), "the oldest are not");
}
