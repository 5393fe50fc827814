use super::*;

fn peer(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([127, 0, 0, last]))
}

fn enter(connection_limit: &Arc<ConnectionLimit>, of: u8) -> Option<Arc<ConnectionPermit>> {
    connection_limit.acquire(peer(of)).0
}

#[test]
fn the_connection_that_is_idle_longest_makes_room_and_one_that_is_busy_does_not() {
    let connection_limit = ConnectionLimit::new(3, Some(3));
    let held: Vec<_> = (1..=3).map(|of| enter(&connection_limit, of).expect("there are three")).collect();
    let _first_is_busy = held[0].busy();
    // The second was busy, and has been idle for less long than the third.
    drop(held[1].busy());
    let (fourth, made_room) = connection_limit.acquire(peer(4));
    assert!(fourth.is_some_and(|permit| !permit.is_for_probes()) && made_room);
    assert_eq!(held.iter().map(|permit| permit.close.is_cancelled()).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn where_all_are_busy_a_few_more_may_ask_for_health() {
    let connection_limit = ConnectionLimit::new(2, Some(2));
    let held: Vec<_> = (1..=2).map(|of| enter(&connection_limit, of).expect("there are two")).collect();
    let busy: Vec<_> = held.iter().map(ConnectionPermit::busy).collect();
    let probes: Vec<_> = (0..FOR_PROBES).map(|_| enter(&connection_limit, 3).expect("a few more")).collect();
    assert!(probes.iter().all(|permit| permit.is_for_probes()));
    let _probing: Vec<_> = probes.iter().map(ConnectionPermit::busy).collect();
    assert!(enter(&connection_limit, 3).is_none());
    drop((busy, held));
    assert!(enter(&connection_limit, 3).is_some_and(|permit| !permit.is_for_probes()));
}

#[test]
fn a_peer_has_a_quarter_unless_told_otherwise_and_makes_room_by_its_own() {
    let connection_limit = ConnectionLimit::new(100, None);
    let held: Vec<_> = (0..25).map(|_| enter(&connection_limit, 1).expect("a quarter")).collect();
    let other = enter(&connection_limit, 2).expect("another peer has its own");
    let one_more = enter(&connection_limit, 1).expect("its oldest goes");
    assert!(held[0].close.is_cancelled() && !other.close.is_cancelled() && !one_more.is_for_probes());
    drop(held);
    drop((other, one_more));
    let taken = connection_limit.open.lock();
    assert!(taken.all.is_empty() && taken.by_peer.is_empty() && taken.for_probes == 0);
}
