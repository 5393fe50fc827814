use super::*;
use crate::limit::{Entry, SECOND};
use crate::store::redis::request::INDEPENDENT;
use crate::store::{CounterCheck, Gate, Key};

fn request(user: &str, hits: i64, now: u64) -> Request {
    of(&[(user, hits)], Algorithm::FixedWindow, now)
}

fn of(asked: &[(&str, i64)], algorithm: Algorithm, now: u64) -> Request {
    let entries: Vec<[Entry<'_>; 1]> = asked.iter().map(|(user, _)| [Entry { key: "user", value: user }]).collect();
    let check = |((_, hits), entries)| CounterCheck {
        key: Key { domain: "d", entries, shared: &[], limit_name: "", variable: 0 },
        rule: 0,
        limit: Limit::new(10, SECOND, algorithm),
        cost: Cost { hits, charge_denied: false },
        role: Role::Enforced,
    };
    let checks: Vec<CounterCheck<'_>> =
        asked.iter().copied().zip(entries.iter().map(|entries| &entries[..])).map(check).collect();
    Request::new(&checks, Gate::default(), false, now, "", |_| 3)
}

/// The arguments of the call, after the command and the name of the script.
fn arguments(cmd: &Cmd) -> Vec<Vec<u8>> {
    cmd.args_iter()
        .skip(2)
        .map(|arg| match arg {
            redis::Arg::Simple(bytes) => bytes.to_vec(),
            _ => panic!("no cursors here"),
        })
        .collect()
}

fn pack(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn of_the_last(batch: &Batch, numbers: &[f64]) -> Vec<Reading> {
    let verdict = batch.read(&pack(numbers)).and_then(|reply| reply.result).expect("a full answer");
    verdict.readings
}

#[test]
fn identical_requests_are_told_once_with_their_number() {
    let requests = [request("a", 1, 0), request("b", 1, 0), request("a", 1, 0), request("a", 2, 0)];
    let (batch, cmd) = Batch::new(requests.iter(), &Script::of_slot(), "refunds", 0, 77);
    let args = arguments(&cmd);
    assert_eq!((batch.counters, batch.merged), (2, 1));
    // What nobody else asks about comes first.
    assert_eq!(args[..3], [b"2".to_vec(), b"tg1:{3}:fw:1s:d:user=b".to_vec(), b"tg1:{3}:fw:1s:d:user=a".to_vec()]);
    assert_eq!(args[3][..24], pack(&[0.0, 77.0, 0.0]), "none of them is a log");
    assert_eq!(args[3].len(), 24 + 2 * 64, "two terms: one hit and two");
    // Once the next key with term 1; twice term 1 with key 2; once term 2 with key 2.
    let (apart, twice, other) =
        ([1, 0, 1, 0, INDEPENDENT, 0, 1, 0], [1, 0, 2, 0, 0, 0, 1, 0, 2, 0], [1, 0, 1, 0, 0, 0, 2, 0, 2, 0]);
    assert_eq!(args[4], [&apart[..], &twice, &other].concat());
}

#[test]
fn alike_requests_make_one_run_though_others_came_between() {
    let pair = |a, b| of(&[(a, 1), (b, 1)], Algorithm::FixedWindow, 0);
    let requests = [request("a", 1, 0), pair("b", "c"), request("d", 1, 0), pair("e", "f"), request("g", 2, 0)];
    let (batch, cmd) = Batch::new(requests.iter(), &Script::of_slot(), "refunds", 0, 0);
    let args = arguments(&cmd);
    assert_eq!((batch.counters, batch.merged), (7, 0));
    let users: Vec<u8> = args[1..8].iter().map(|key| *key.last().unwrap()).collect();
    assert_eq!(users, b"adbcefg");
    let (ones, pairs, other) = (
        [2, 0, 1, 0, INDEPENDENT, 0, 1, 0],
        [2, 0, 1, 0, INDEPENDENT, 1, 1, 0, 1, 0],
        [1, 0, 1, 0, INDEPENDENT, 0, 2, 0],
    );
    assert_eq!(args[9], [&ones[..], &pairs, &other].concat());
    // By request: the first of its readings.
    let answers: Vec<f64> = (0..7).flat_map(|nth| [f64::from(nth), 0.0]).collect();
    let verdict = batch.read(&pack(&[&[1.0, 0.0, 0.0, 0.0], &answers[..]].concat())).unwrap().result.unwrap();
    let firsts: Vec<u64> = (0..5).map(|nth| batch.readings(&verdict, nth).expect("here")[0].remaining).collect();
    assert_eq!(firsts, [0, 2, 1, 4, 6]);
    assert_eq!(batch.readings(&verdict, 3).expect("here").len(), 2);
}

/// The example at the head of `gather`.
#[test]
fn requests_a_b_a_bc_d_make_four_runs() {
    let bc = of(&[("b", 1), ("c", 1)], Algorithm::FixedWindow, 0);
    let requests = [request("a", 1, 0), request("b", 1, 0), request("a", 1, 0), bc, request("d", 1, 0)];
    let (batch, cmd) = Batch::new(requests.iter(), &Script::of_slot(), "refunds", 0, 0);
    let args = arguments(&cmd);
    assert_eq!((batch.counters, batch.merged, batch.layout.runs().count()), (4, 1, 4));
    let users: Vec<u8> = args[1..5].iter().map(|key| *key.last().unwrap()).collect();
    assert_eq!(users, b"dabc");
    let answers: Vec<f64> = (0..6).flat_map(|nth| [f64::from(nth), 0.0]).collect();
    let verdict = batch.read(&pack(&[&[1.0, 0.0, 0.0, 0.0], &answers[..]].concat())).unwrap().result.unwrap();
    let numbers = |nth| {
        batch.readings(&verdict, nth).expect("here").iter().map(|reading| reading.remaining).collect::<Vec<u64>>()
    };
    assert_eq!([0, 1, 2, 3, 4].map(numbers), [vec![1], vec![3], vec![2], vec![4, 5], vec![0]]);
}

#[test]
fn logs_stand_behind_all_other_counters_and_their_requests_are_never_apart() {
    let of_log = |user| of(&[(user, 1)], Algorithm::SlidingLog, 0);
    let requests = [of_log("a"), request("b", 1, 0), of_log("c"), request("d", 1, 0), of_log("a")];
    let (batch, cmd) = Batch::new(requests.iter(), &Script::of_slot(), "refunds", 0, 0);
    let args = arguments(&cmd);
    assert_eq!((batch.counters, batch.merged), (4, 1));
    let users: Vec<u8> = args[1..5].iter().map(|key| *key.last().unwrap()).collect();
    assert_eq!(users, b"bdac");
    assert_eq!(args[5][..24], pack(&[0.0, 0.0, 2.0]), "two of them are logs");
    // Twice term 1 with key 3, once with key 4, and before them both of term 2.
    let (apart, twice, once) =
        ([2, 0, 1, 0, INDEPENDENT, 0, 2, 0], [1, 0, 2, 0, 0, 0, 1, 0, 3, 0], [1, 0, 1, 0, 0, 0, 1, 0, 4, 0]);
    assert_eq!(args[6], [&apart[..], &twice, &once].concat());
    assert_eq!(Batch::key(requests.iter(), 4), Some(&b"tg1:{3}:log2:1s:d:user=c"[..]));
}

#[test]
fn each_request_gets_the_answer_of_its_own_turn() {
    let requests = [request("a", 1, 0), request("b", 1, 0), request("a", 1, 0)];
    let (batch, _) = Batch::new(requests.iter(), &Script::of_slot(), "refunds", 0, 0);
    // In the order of the script: `b`, which comes once, before both of `a`, the last of which was refused.
    let bytes = pack(&[5.0, 0.0, 0.0, 0.0, 9.0, 100.0, 8.0, 101.0, -4.0, 102.0]);
    let verdict = batch.read(&bytes).and_then(|reply| reply.result).expect("a full answer");
    let of = |nth| batch.readings(&verdict, nth).expect("here")[0];
    assert_eq!(of(1), Reading { admitted: true, remaining: 9, reset: Micros(100) });
    assert_eq!(of(0), Reading { admitted: true, remaining: 8, reset: Micros(101) });
    assert_eq!(of(2), Reading { admitted: false, remaining: 3, reset: Micros(102) });
}

#[test]
fn one_number_sends_all_that_are_identical_elsewhere_and_the_rest_is_read() {
    let pair = of(&[("b", 1), ("c", 1)], Algorithm::FixedWindow, 0);
    let requests = [request("a", 1, 0), pair, request("a", 1, 0), request("d", 1, 0)];
    let (batch, _) = Batch::new(requests.iter(), &Script::of_node(), "refunds", 0, 0);
    // In the order of the script: `d`, the pair, and `a` twice; or `d`, `a` twice, the pair.
    let verdict = |numbers: &[f64]| batch.read(&pack(numbers)).and_then(|reply| reply.result).expect("a full answer");
    let order: Vec<usize> = batch.layout.groups().map(|group| batch.layout.checks_of(group).len()).collect();
    assert_eq!(order, [1, 2, 1]);
    let some = verdict(&[5.0, 0.0, 0.0, 0.0, 9.0, 100.0, MOVED, MOVED]);
    let readings = |verdict: &BatchResult| [0, 1, 2, 3].map(|nth| batch.readings(verdict, nth).map(|all| all.len()));
    assert_eq!(readings(&some), [None, None, None, Some(1)]);
    assert_eq!((some.elsewhere(), some.is_forbidden), ((true, false), false));
    let other = verdict(&[5.0, 0.0, 0.0, 0.0, FORBIDDEN, 8.0, 100.0, 7.0, 100.0, 6.0, 100.0, 5.0, 100.0]);
    assert_eq!(readings(&other), [Some(1), Some(2), Some(1), None]);
    assert!(other.is_forbidden);
    let all = verdict(&[5.0, 0.0, 0.0, 0.0, MOVED, MOVED, MOVED]);
    assert_eq!(all.elsewhere(), (true, true));
    // One answer too few or too many is no answer to this batch.
    for numbers in [&[5.0, 0.0, 0.0, 0.0, MOVED, MOVED][..], &[5.0, 0.0, 0.0, 0.0, MOVED, MOVED, MOVED, MOVED]] {
        assert!(batch.read(&pack(numbers)).is_none());
    }
}

#[test]
fn one_number_answers_all_that_are_identical_and_usual() {
    let thrice = || of(&[("a", 2)], Algorithm::SlidingWindow, 0);
    let requests = [thrice(), thrice(), thrice()];
    let (batch, _) = Batch::new(requests.iter(), &Script::of_slot(), "refunds", 0, 0);
    let readings = of_the_last(&batch, &[5_000_000.0, 0.0, 0.0, 0.0, 3.5]);
    // 32 parts of 31,250 µs: the hit of now leaves with the end of the 33rd.
    let reset = Micros(33 * 31_250);
    let left = |remaining| Reading { admitted: true, remaining, reset };
    assert_eq!(readings, [left(7), left(5), left(3)]);
}

#[test]
fn a_time_alone_means_too_late() {
    let requests = [request("a", 1, 0)];
    let (batch, _) = Batch::new(requests.iter(), &Script::of_slot(), "refunds", 0, 0);
    let said = batch.read(&pack(&[5.0])).expect("a time");
    assert_eq!(said.now, 5);
    assert!(said.result.is_none());
}

#[test]
fn an_answer_of_another_length_is_no_answer() {
    let requests = [request("a", 1, 0)];
    let (batch, _) = Batch::new(requests.iter(), &Script::of_slot(), "refunds", 0, 0);
    assert!(batch.read(&[]).is_none());
    assert!(batch.read(&pack(&[5.0, 0.0, 0.0, 0.0, 1.0])).is_none());
    assert!(batch.read(&pack(&[5.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0])).is_none());
}

#[test]
fn a_damaged_counter_is_named() {
    let requests = [request("a", 1, 0), request("b", 1, 0)];
    let (batch, _) = Batch::new(requests.iter(), &Script::of_slot(), "refunds", 0, 0);
    let bytes = pack(&[5.0, 1.0, 2.0, 0.0, 9.0, 1.0, 9.0, 1.0]);
    let verdict = batch.read(&bytes).and_then(|reply| reply.result).expect("a full answer");
    assert_eq!(verdict.damaged, 1);
    let key = Batch::key(requests.iter(), verdict.damaged_first);
    assert_eq!(key, Some(&b"tg1:{3}:fw:1s:d:user=b"[..]));
}

#[test]
fn counters_that_are_given_hits_back_are_told_to_the_channel() {
    let requests = [request("a", 1, 0), request("b", -1, 0)];
    let (_, cmd) = Batch::new(requests.iter(), &Script::of_slot(), "refunds", 0, 0);
    let args = arguments(&cmd);
    assert_eq!(args[5..], [b"refunds".to_vec(), b"tg1:{3}:fw:1s:d:user=b".to_vec()]);
}
