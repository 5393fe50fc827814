//! The plan of a request as tables: who is charged, and what each ask reads, for each mix of roles.

use super::*;
use crate::{
    limit::{Algorithm, Limit, SECOND},
    store::{Key, Role},
};

const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

fn ask(requests: u32, hits: i64, role: Role) -> Ask<'static> {
    let key = Key { domain: "d", entries: &[], shared: &[], limit_name: "", variable: 0 };
    let limit = Limit::new(requests, SECOND, Algorithm::FixedWindow);
    Ask { key, rule: 0, limit, cost: Cost { hits, charge_denied: false }, role }
}

fn charging(ask: Ask<'static>) -> Ask<'static> {
    Ask { cost: Cost { charge_denied: true, ..ask.cost }, ..ask }
}

/// Each ask on its own fresh counter; what each counter holds afterwards, and the readings.
fn settled(asks: &[Ask<'_>], gate: Gate) -> (Vec<u64>, Readings) {
    let slots: Vec<usize> = (0..asks.len()).collect();
    let mut states = vec![State::Empty; asks.len()];
    let readings = settle(asks, &slots, &mut states, gate, NOW);
    (states.into_iter().map(held).collect(), readings)
}

/// Hits that a counter holds, asked with a limit that nothing here reaches.
fn held(state: State) -> u64 {
    let wide = ask(1_000_000, 0, Role::Enforced).limit;
    1_000_000 - step(&wide, state, LOOK, NOW).1.remaining
}

fn admitted(readings: &Readings) -> Vec<bool> {
    readings.iter().map(|reading| reading.admitted).collect()
}

#[test]
fn admitted_request_charges_every_counter() {
    let (counts, readings) = settled(&[ask(5, 2, Role::Enforced), ask(5, 3, Role::Enforced)], Gate::default());
    assert_eq!(counts, [2, 3]);
    assert_eq!(readings.iter().map(|reading| reading.remaining).collect::<Vec<_>>(), [3, 2]);
}

#[test]
fn one_refusal_charges_nothing_anywhere_and_the_others_read_uncharged() {
    let (counts, readings) = settled(&[ask(5, 2, Role::Enforced), ask(1, 3, Role::Enforced)], Gate::default());
    assert_eq!(counts, [0, 0]);
    assert_eq!(admitted(&readings), [true, false]);
    assert_eq!(readings[0].remaining, 5);
}

#[test]
fn denied_request_charges_what_charges_denied_hits_wherever_it_stands() {
    let asks = [charging(ask(5, 2, Role::Enforced)), charging(ask(1, 3, Role::Shadow)), ask(1, 3, Role::Enforced)];
    let (counts, readings) = settled(&asks, Gate::default());
    assert_eq!(counts, [2, 3, 0]);
    assert_eq!(admitted(&readings), [true, false, false]);
    assert_eq!(readings[0].remaining, 3);
}

#[test]
fn refusing_shadow_is_neither_charged_nor_heard() {
    let (counts, readings) = settled(&[ask(1, 2, Role::Shadow), ask(5, 2, Role::Enforced)], Gate::default());
    assert_eq!(counts, [0, 2]);
    assert_eq!(admitted(&readings), [false, true]);
}

#[test]
fn quota_denies_only_when_all_quotas_refuse() {
    let (counts, _) = settled(&[ask(1, 2, Role::Quota), ask(5, 2, Role::Quota)], Gate::default());
    assert_eq!(counts, [0, 2]);
    let (counts, _) =
        settled(&[ask(1, 2, Role::Quota), ask(1, 2, Role::Quota), ask(5, 2, Role::Enforced)], Gate::default());
    assert_eq!(counts, [0, 0, 0]);
}

#[test]
fn open_quota_and_never_deny_charge_what_admits() {
    let open = Gate { quota_open: true, never_deny: false };
    assert_eq!(settled(&[ask(1, 2, Role::Quota), ask(5, 2, Role::Enforced)], open).0, [0, 2]);
    let shadow = Gate { quota_open: false, never_deny: true };
    assert_eq!(settled(&[ask(1, 2, Role::Enforced), ask(5, 2, Role::Enforced)], shadow).0, [0, 2]);
}

#[test]
fn duplicates_are_tried_on_what_the_first_would_leave() {
    let asks = [ask(5, 3, Role::Enforced), ask(5, 3, Role::Enforced)];
    let mut states = [State::Empty];
    let readings = settle(&asks, &[0, 0], &mut states, Gate::default(), NOW);
    assert_eq!(admitted(&readings), [true, false]);
    assert_eq!(held(states[0].clone()), 0);
    let readings = settle(&asks[..1], &[0], &mut states, Gate::default(), NOW);
    assert_eq!((readings[0].remaining, held(states[0].clone())), (2, 3));
}

#[test]
fn refund_of_a_denied_request_does_not_happen() {
    let limit = ask(5, 4, Role::Enforced);
    let mut states = [State::Empty, State::Empty];
    settle(&[limit], &[0], &mut states, Gate::default(), NOW);
    let asks = [ask(5, -4, Role::Enforced), ask(1, 3, Role::Enforced)];
    let readings = settle(&asks, &[0, 1], &mut states, Gate::default(), NOW);
    assert_eq!((held(states[0].clone()), readings[0].remaining), (4, 1));
    settle(&asks[..1], &[0], &mut states, Gate::default(), NOW);
    assert_eq!(held(states[0].clone()), 0);
}
