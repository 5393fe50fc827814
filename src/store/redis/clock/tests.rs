use std::time::Duration;

use super::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_deadline_is_never_told_too_early() {
    let start = Instant::now();
    // Redis is 1,000,000 µs ahead and is asked with 3 ms on the way there, 1 ms back.
    let mut clock = RedisClock::new((1_003_000, start));
    clock.learn(1_103_000, start + 100 * MS, start + 104 * MS);
    let truth = 1_200_000;
    let told = clock.at(start + 200 * MS);
    assert!((truth..=truth + 3_000).contains(&told), "{told}");
}

#[test]
fn a_quick_reply_sharpens_what_slow_ones_said() {
    let start = Instant::now();
    let mut clock = RedisClock::new((50_000, start));
    clock.learn(110_000, start + 100 * MS, start + 160 * MS);
    clock.learn(200_010, start + 200 * MS, start + 201 * MS);
    assert_eq!(clock.at(start + 300 * MS), 300_010);
}

#[test]
fn a_clock_that_was_set_back_is_followed_at_the_next_reply() {
    let start = Instant::now();
    let mut clock = RedisClock::new((9_000_000_000, start));
    clock.learn(9_000_001_000, start + MS, start + MS);
    clock.learn(2_000, start + 2 * MS, start + 2 * MS);
    assert_eq!(clock.at(start + 5 * MS), 5_000);
}

#[test]
fn the_wall_clock_is_corrected_by_the_middle_of_what_is_possible() {
    let start = Instant::now();
    let mut clock = RedisClock::new((50_000, start));
    clock.learn(150_000, start + 100 * MS, start + 102 * MS);
    // Redis read 150,000 µs somewhere between 100 and 102 ms; so at 202 ms it reads 250,000 to 252,000.
    let ahead = clock.ahead_us(start + 202 * MS, UnixMicros(1_000_000));
    assert!((250_000 - 1_000_000..=252_000 - 1_000_000).contains(&ahead), "{ahead}");
}
