use super::*;
use crate::limit::{Entry, SECOND};
use crate::store::Key;

fn request(user: &str, hits: i64, now: u64) -> Request {
    let entries = [Entry { key: "user", value: user }];
    let ask = Ask {
        key: Key { domain: "d", entries: &entries, shared: &[], limit_name: "", variable: 0 },
        rule: 0,
        limit: Limit::new(10, SECOND, Algorithm::FixedWindow),
        cost: Cost { hits, charge_denied: false },
        role: Role::Enforced,
    };
    Request::new(&[ask], Gate::default(), false, now, "", |_| 3)
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

fn reply(numbers: &[f64]) -> Vec<u8> {
    pack(numbers)
}

#[test]
fn identical_requests_are_told_once_with_their_number() {
    let requests = [request("a", 1, 0), request("b", 1, 0), request("a", 1, 0), request("a", 2, 0)];
    let (batch, cmd) = Batch::new(requests.iter(), &Script::new(), "refunds", 0, 77);
    let args = arguments(&cmd);
    assert_eq!((batch.counters(), batch.merged), (2, 1));
    assert_eq!(args[0], b"2");
    assert_eq!(args[1], b"tg1:{3}:fixed_window:1000000:d:user=a");
    assert_eq!(args[3], pack(&[0.0, 77.0]));
    assert_eq!(args[4].len(), 2 * 64, "two terms: one hit and two");
    // Twice key 1 with term 1, once key 2 with term 1 (which nobody else asks about), once key 1 with term 2.
    assert_eq!(args[5], [2, 0, 0, 0, 1, 0, 1, 0, 1, 0, APART, 0, 2, 0, 1, 0, 1, 0, 0, 0, 1, 0, 2, 0]);
}

#[test]
fn each_request_gets_the_answer_of_its_own_turn() {
    let requests = [request("a", 1, 0), request("b", 1, 0), request("a", 1, 0)];
    let (batch, _) = Batch::new(requests.iter(), &Script::new(), "refunds", 0, 0);
    // In the order of the script: both of `a`, then `b`; the last one was refused with 3 remaining.
    let bytes = reply(&[5.0, 0.0, 0.0, 0.0, 9.0, 100.0, 8.0, 101.0, -4.0, 102.0]);
    let verdict = batch.read(&bytes).and_then(|reply| reply.verdict).expect("a full answer");
    let of = |nth| batch.readings(&verdict, nth, 1)[0];
    assert_eq!(of(0), Reading { admitted: true, remaining: 9, reset: Micros(100) });
    assert_eq!(of(2), Reading { admitted: true, remaining: 8, reset: Micros(101) });
    assert_eq!(of(1), Reading { admitted: false, remaining: 3, reset: Micros(102) });
}

#[test]
fn a_time_alone_means_too_late() {
    let requests = [request("a", 1, 0)];
    let (batch, _) = Batch::new(requests.iter(), &Script::new(), "refunds", 0, 0);
    let said = batch.read(&reply(&[5.0])).expect("a time");
    assert_eq!(said.now, 5);
    assert!(said.verdict.is_none());
}

#[test]
fn an_answer_of_another_length_is_no_answer() {
    let requests = [request("a", 1, 0)];
    let (batch, _) = Batch::new(requests.iter(), &Script::new(), "refunds", 0, 0);
    assert!(batch.read(&[]).is_none());
    assert!(batch.read(&reply(&[5.0, 0.0, 0.0, 0.0, 1.0])).is_none());
}

#[test]
fn a_damaged_counter_is_named() {
    let requests = [request("a", 1, 0), request("b", 1, 0)];
    let (batch, _) = Batch::new(requests.iter(), &Script::new(), "refunds", 0, 0);
    let bytes = reply(&[5.0, 1.0, 2.0, 0.0, 9.0, 1.0, 9.0, 1.0]);
    let verdict = batch.read(&bytes).and_then(|reply| reply.verdict).expect("a full answer");
    assert_eq!(verdict.damaged, 1);
    assert_eq!(verdict.damaged_first.as_deref(), Some(&b"tg1:{3}:fixed_window:1000000:d:user=b"[..]));
}

#[test]
fn counters_that_are_given_hits_back_are_told_to_the_channel() {
    let requests = [request("a", 1, 0), request("b", -1, 0)];
    let (_, cmd) = Batch::new(requests.iter(), &Script::new(), "refunds", 0, 0);
    let args = arguments(&cmd);
    assert_eq!(args[6..], [b"refunds".to_vec(), b"tg1:{3}:fixed_window:1000000:d:user=b".to_vec()]);
}
