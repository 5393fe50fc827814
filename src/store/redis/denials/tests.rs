use super::*;
use crate::limit::{Algorithm, Cost, Entry as Pair, Limit, Reading, SECOND};
use crate::store::{Ask, Gate, Key, Role};

struct Asked<'a> {
    user: &'a str,
    requests: u32,
    hits: i64,
    charge_denied: bool,
    role: Role,
}

const PLAIN: Asked<'static> =
    Asked { user: "alice", requests: 10, hits: 1, charge_denied: false, role: Role::Enforced };

fn request(asked: &[Asked<'_>]) -> Request {
    let entries: Vec<[Pair<'_>; 1]> = asked.iter().map(|asked| [Pair { key: "user", value: asked.user }]).collect();
    let asks: Vec<Ask<'_>> = asked
        .iter()
        .zip(&entries)
        .map(|(asked, entries)| Ask {
            key: Key { domain: "d", entries, shared: &[], limit_name: "", variable: 0 },
            rule: 0,
            limit: Limit::new(asked.requests, SECOND, Algorithm::SlidingWindow),
            cost: Cost { hits: asked.hits, charge_denied: asked.charge_denied },
            role: asked.role,
        })
        .collect();
    Request::new(&asks, Gate::default(), false, 0, "", |_| 0)
}

fn key(request: &Request) -> Vec<u8> {
    request.keys().next().unwrap().to_vec()
}

fn refused(reset: u64) -> Readings {
    Readings::from_slice(&[Reading { admitted: false, remaining: 0, reset: Micros(reset) }])
}

/// Whether a denial of `asked` is remembered.
fn is_kept(asked: &[Asked<'_>], readings: &Readings) -> bool {
    let denials = Denials::new(1 << 20);
    denials.keep(request(asked), readings, Instant::now(), 0);
    denials.find(&request(asked)).is_some()
}

#[test]
fn denial_is_given_again_with_the_time_that_is_left() {
    let denials = Denials::new(1 << 20);
    let sent = Instant::now() - Duration::from_millis(100);
    denials.keep(request(&[PLAIN]), &refused(500_000), sent, 0);
    let reading = denials.find(&request(&[PLAIN])).expect("remembered")[0];
    assert!(!reading.admitted);
    assert!(reading.reset.0 <= 400_000, "{reading:?}");
}

#[test]
fn denial_is_given_only_to_the_same_question() {
    let denials = Denials::new(1 << 20);
    denials.keep(request(&[PLAIN]), &refused(500_000), Instant::now(), 0);
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
fn denial_is_given_to_the_same_or_higher_costs() {
    let denials = Denials::new(1 << 20);
    denials.keep(request(&[Asked { hits: 3, ..PLAIN }]), &refused(500_000), Instant::now(), 0);
    let find = |hits| denials.find(&request(&[Asked { hits, ..PLAIN }])).map(|readings| readings[0]);
    for hits in [-1, 0, 1, 2] {
        assert_eq!(find(hits), None, "{hits}");
    }
    for hits in [3, 4, 10] {
        let reading = find(hits).expect("remembered");
        assert!(!reading.admitted && reading.reset.0 <= 500_000, "{hits}: {reading:?}");
    }
    // More than the whole limit can never pass.
    assert!(find(11).expect("remembered").reset.0 > 900_000);
    // A cheaper denial says more, and takes the place.
    denials.keep(request(&[PLAIN]), &refused(400_000), Instant::now(), 0);
    assert!(find(1).is_some() && find(2).is_some() && find(3).is_some());
}

#[test]
fn counter_that_did_not_refuse_answers_for_as_much_as_was_left() {
    let denials = Denials::new(1 << 20);
    let asked = |hits| request(&[PLAIN, Asked { user: "bob", hits, ..PLAIN }]);
    let left = Reading { admitted: true, remaining: 4, reset: Micros(9) };
    denials.keep(asked(2), &Readings::from_slice(&[refused(500_000)[0], left]), Instant::now(), 0);
    for (hits, is_known) in [(-1, false), (0, true), (2, true), (4, true), (5, false)] {
        assert_eq!(denials.find(&asked(hits)).is_some(), is_known, "{hits}");
    }
}

#[test]
fn denial_ends_with_its_reset_counted_from_when_it_was_asked() {
    let denials = Denials::new(1 << 20);
    denials.keep(request(&[PLAIN]), &refused(50_000), Instant::now() - Duration::from_millis(51), 0);
    assert!(denials.find(&request(&[PLAIN])).is_none());
    denials.keep(request(&[PLAIN]), &refused(60_000_000), Instant::now() - Duration::from_millis(1_001), 0);
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
    let denials = Denials::new(1 << 20);
    let bob = || request(&[Asked { user: "bob", ..PLAIN }]);
    denials.keep(request(&[PLAIN]), &refused(500_000), Instant::now(), 0);
    denials.keep(bob(), &refused(500_000), Instant::now(), 0);
    denials.forget(&key(&request(&[PLAIN])));
    assert!(denials.find(&request(&[PLAIN])).is_none());
    assert!(denials.find(&bob()).is_some());
}

#[test]
fn answer_from_before_a_refund_is_not_kept_after_it() {
    let denials = Denials::new(1 << 20);
    let before = denials.generation();
    denials.forget(b"another counter");
    denials.keep(request(&[PLAIN]), &refused(500_000), Instant::now(), before);
    assert!(denials.find(&request(&[PLAIN])).is_none());
}

#[test]
fn memory_stays_bounded_however_many_are_denied() {
    let denials = Denials::new(64 * 1024);
    for user in 0..10_000 {
        let user = user.to_string();
        denials.keep(request(&[Asked { user: &user, ..PLAIN }]), &refused(500_000), Instant::now(), 0);
        let halves = denials.halves.lock();
        assert!(halves.young.bytes + halves.old.bytes <= 64 * 1024);
    }
    assert!(denials.find(&request(&[Asked { user: "9999", ..PLAIN }])).is_some(), "the newest are there");
    assert!(denials.find(&request(&[Asked { user: "0", ..PLAIN }])).is_none(), "the oldest are not");
}
