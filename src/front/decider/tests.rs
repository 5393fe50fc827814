use super::*;

#[test]
fn who_has_the_time_waits_for_what_is_on_its_way() {
    let arrived = clock::instant();
    let ms = Duration::from_millis;
    let waits = |timeout, allowed: Option<u64>| {
        let waited_for = deadline(arrived, ms(timeout), allowed.map(ms));
        [waited_for.at, waited_for.sent].map(|by| by.duration_since(arrived.into()).as_millis())
    };
    assert_eq!(waits(10, None), [10, 10], "of a caller's time nothing is known");
    assert_eq!(waits(10, Some(20)), [10, 15], "as Envoy asks");
    assert_eq!(waits(10, Some(12)), [10, 10]);
    assert_eq!(waits(10, Some(3)), [3, 3]);
    assert_eq!(waits(10, Some(60_000)), [10, 20], "a silent Redis is not waited for as long as a caller would");
}
