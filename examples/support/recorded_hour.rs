//! A recorded hour of a service's requests, the same for the same seed: few users ask very much, most ask little, and all come
//! in waves.

use std::fmt::Write as _;

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

/// When the hour begins, in microseconds since the epoch: 2026-01-05T09:00:00Z.
pub(crate) const HOUR_BEGINS: u64 = 1_767_603_600_000_000;

const HOUR: f64 = 3_600e6;

/// How long a wave is, and by how much the requests at its top exceed the average.
const WAVE: f64 = 900e6;
const WAVE_HEIGHT: f64 = 0.5;

/// What an hour is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordedHour {
    pub(crate) requests: usize,
    pub(crate) users: usize,
    pub(crate) seed: u64,
}

/// A request of one hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HourRequest {
    /// Microseconds since the epoch.
    pub(crate) at: u64,
    /// From 0; the first ask most.
    pub(crate) user: usize,
}

impl RecordedHour {
    /// The requests in the order of their times. The user with the number `n` has a share like `1 / (n + 1)`.
    pub(crate) fn requests(self) -> Vec<HourRequest> {
        let mut random = SmallRng::seed_from_u64(self.seed);
        let mut sums = Vec::with_capacity(self.users);
        let mut sum = 0.0;
        for user in 0..self.users {
            sum += 1.0 / (user + 1) as f64;
            sums.push(sum);
        }
        let mut requests: Vec<HourRequest> = (0..self.requests)
            .map(|_| {
                let drawn = random.random::<f64>() * sum;
                let user = sums.partition_point(|below| *below <= drawn).min(self.users - 1);
                HourRequest { at: HOUR_BEGINS + moment(&mut random), user }
            })
            .collect();
        requests.sort_by_key(|request| (request.at, request.user));
        requests
    }
}

/// A moment of the hour in microseconds, more often at the top of a wave.
fn moment(random: &mut SmallRng) -> u64 {
    loop {
        let at = random.random::<f64>() * HOUR;
        let height = 1.0 + WAVE_HEIGHT * (at * std::f64::consts::TAU / WAVE).sin();
        if random.random::<f64>() * (1.0 + WAVE_HEIGHT) < height {
            return at as u64;
        }
    }
}

impl HourRequest {
    pub(crate) fn user_name(self) -> String {
        format!("user-{}", self.user)
    }

    /// The request as a line of a log, with what a replay needs.
    pub(crate) fn line(self, out: &mut String) {
        let _ = writeln!(
            out,
            r#"{{"t":{}.{:06},"domain":"api","descriptors":[{{"entries":[{{"key":"user","value":"{}"}}]}}],"hits":1}}"#,
            self.at / 1_000_000,
            self.at % 1_000_000,
            self.user_name(),
        );
    }
}
