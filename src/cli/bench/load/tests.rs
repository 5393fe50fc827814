//! Requests are due when the rate says so, and said one by one.

use super::*;

#[tokio::test]
async fn each_request_is_said_once_and_not_before_it_is_due() {
    let start = Instant::now();
    let mut said = pace(start, start + Duration::from_millis(20), 4_000.0);
    let mut numbers = 0..;
    while let Some((number, due)) = said.recv().await {
        assert!(due <= Instant::now());
        assert_eq!(Some(number), numbers.next());
        assert_eq!(due, start + Duration::from_micros(250) * number as u32);
    }
    assert_eq!(numbers.next(), Some(80));
}

#[tokio::test]
async fn what_is_asked_for_too_fast_is_said_at_once_and_ends() {
    let start = Instant::now();
    let mut said = pace(start, start + Duration::from_nanos(50), 1e9);
    let mut numbers = Vec::new();
    while let Some((number, _)) = said.recv().await {
        numbers.push(number);
    }
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
}
