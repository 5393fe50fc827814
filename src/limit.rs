//! The terms of a decision and their units: requests, limits, costs and readings. Plain values only: it knows no YAML,
//! protobuf, Redis or clock.

mod log_sample;
pub mod moment;
mod share;
pub mod written;

use std::time::Duration;

use smallvec::SmallVec;

pub use log_sample::LogSample;
pub use share::{ClientPart, EnforcedShare, PARTS};

/// A moment: whole microseconds since the Unix epoch, below 2^53 so that Lua's doubles hold it exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMicros(pub u64);

/// A length of time in whole microseconds, at most [`WINDOW_MAX`] where it is a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

pub const SECOND: Micros = Micros(1_000_000);

/// Longest window: ten years. A longer one would be the same as "never"; and index arithmetic stays exact in f64.
pub const WINDOW_MAX: Micros = Micros(10 * 365 * 86_400 * 1_000_000);

/// Costs beyond this are clamped: no limit can be larger, so the answer is the same.
pub const HITS_MAX: i64 = 1 << 32;

/// Largest weight of a request's checks, in counters, that one script decides; a larger request is decided in
/// sub-requests.
pub const COUNTERS_MAX: usize = 256;

/// Descriptors that one request may have. Those without a limit touch no counter, but have to be stored and answered.
pub const DESCRIPTORS_MAX: usize = 1_024;

/// Most entries of all descriptors of one request together.
pub const ENTRIES_MAX: usize = 16 * DESCRIPTORS_MAX;

impl Micros {
    /// Whole seconds, rounded up: Envoy drops the fraction of `duration_until_reset`, and a client that
    /// comes back early is refused again.
    pub fn seconds_ceil(self) -> u64 {
        self.0.div_ceil(SECOND.0)
    }

    pub fn as_duration(self) -> Duration {
        Duration::from_micros(self.0)
    }
}

/// A unit of the rule files and of Envoy's `RateLimitUnit`; months have 30 days, years 365, as in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Unit {
    pub const ALL: [Unit; 7] = [Unit::Second, Unit::Minute, Unit::Hour, Unit::Day, Unit::Week, Unit::Month, Unit::Year];

    pub const fn seconds(self) -> u64 {
        match self {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3_600,
            Unit::Day => 86_400,
            Unit::Week => 7 * 86_400,
            Unit::Month => 30 * 86_400,
            Unit::Year => 365 * 86_400,
        }
    }

    pub const fn window(self) -> Micros {
        Micros(self.seconds() * SECOND.0)
    }

    /// The unit whose length `window` is, if there is one. `current_limit.unit` must not lie in Envoy's `;w=`.
    pub fn of(window: Micros) -> Option<Unit> {
        Unit::ALL.into_iter().find(|unit| unit.window() == window)
    }

    /// The name in lower case, as rule files write it.
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Second => "second",
            Unit::Minute => "minute",
            Unit::Hour => "hour",
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
            Unit::Year => "year",
        }
    }

    /// Reads a name in any case, as envoyproxy/ratelimit does.
    pub fn parse(text: &str) -> Option<Unit> {
        Unit::ALL.into_iter().find(|unit| unit.name().eq_ignore_ascii_case(text))
    }
}

/// How a limit counts. [`crate::algorithm`] says what each guarantees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    #[default]
    SlidingWindow,
    FixedWindow,
    SlidingLog,
    TokenBucket,
    LeakyBucket,
}

impl Algorithm {
    pub const ALL: [Algorithm; 5] = [
        Algorithm::SlidingWindow,
        Algorithm::FixedWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket,
        Algorithm::LeakyBucket,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::SlidingWindow => "sliding_window",
            Algorithm::FixedWindow => "fixed_window",
            Algorithm::SlidingLog => "sliding_log",
            Algorithm::TokenBucket => "token_bucket",
            Algorithm::LeakyBucket => "leaky_bucket",
        }
    }

    pub fn parse(text: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == text)
    }

    /// Whether the limit has a capacity besides its rate; only buckets have.
    pub const fn has_burst(self) -> bool {
        matches!(self, Algorithm::TokenBucket | Algorithm::LeakyBucket)
    }
}

/// Whether hits that are refused are charged all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CountDenied {
    /// As `Reported` while Envoy uses the limit as a budget: it checks with 0 hits, or without a cost of the
    /// descriptor's own. Else as `Never`, because a cost of its own is then checked before it is spent, and a client
    /// that retries would be locked out by its refused hits.
    #[default]
    Auto,
    /// The limit is a budget: a descriptor's own `hits_addend` is a cost that was already spent
    /// (`apply_on_stream_done`). If it were dropped, the budget would never deny.
    Reported,
    Always,
    Never,
}

impl CountDenied {
    pub const ALL: [CountDenied; 4] =
        [CountDenied::Auto, CountDenied::Reported, CountDenied::Always, CountDenied::Never];

    /// The name, as rule files write it.
    pub const fn name(self) -> &'static str {
        match self {
            CountDenied::Auto => "auto",
            CountDenied::Reported => "reported",
            CountDenied::Always => "true",
            CountDenied::Never => "false",
        }
    }

    /// Whether a limit is a budget, whose hits are reported after they are spent. `learned` is since when `Auto` has
    /// known it to be one. `None` if that makes no difference.
    pub const fn is_budget(self, learned: Option<UnixMicros>) -> Option<bool> {
        match self {
            CountDenied::Auto => Some(learned.is_some()),
            CountDenied::Reported => Some(true),
            CountDenied::Always | CountDenied::Never => None,
        }
    }

    /// Whether the hits of a descriptor are charged even if they are refused or another limit denies the request. `own`
    /// is the descriptor's own cost, if it has one. `is_budget` is only called if `Auto` depends on it.
    pub fn charges(self, origin: Origin, own: Option<i64>, is_budget: impl FnOnce() -> bool) -> bool {
        match (self, own) {
            (CountDenied::Always, _) => true,
            (CountDenied::Never, _) | (_, None | Some(0)) => false,
            // A refund was never refused; if it were not charged, the hits would stay because of another limit.
            (_, Some(..0)) => true,
            (CountDenied::Reported, Some(_)) => origin != Origin::Api,
            (CountDenied::Auto, Some(_)) => origin != Origin::Api && is_budget(),
        }
    }
}

/// Where a request comes from, as far as it matters for what is charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Envoy, or another client of the same service. How it sends costs shows which limits are budgets.
    Envoy,
    /// A tool of Tollgate's own. Its requests are decided as Envoy's are, but show nothing about budgets.
    #[default]
    Tool,
    /// The API, where a cost is always checked before it is spent.
    Api,
}

/// How a request is answered if the store can't decide a limit. The most specific setting wins: limit, descriptor,
/// domain, process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FailurePolicy {
    /// Admits, and reports no limit.
    Open,
    /// Denies.
    Closed,
    /// Limits by this replica's memory, to its share of the limit.
    #[default]
    Local,
    /// Answers with an error, so that the caller decides (Envoy's `failure_mode_deny`).
    Error,
}

impl FailurePolicy {
    pub const ALL: [FailurePolicy; 4] =
        [FailurePolicy::Open, FailurePolicy::Closed, FailurePolicy::Local, FailurePolicy::Error];

    pub const fn name(self) -> &'static str {
        match self {
            FailurePolicy::Open => "open",
            FailurePolicy::Closed => "closed",
            FailurePolicy::Local => "local",
            FailurePolicy::Error => "error",
        }
    }

    pub fn parse(text: &str) -> Option<FailurePolicy> {
        FailurePolicy::ALL.into_iter().find(|policy| policy.name() == text)
    }
}

/// The numbers of one limit, which are all that [`crate::algorithm::step`] needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Hits admitted per window (`requests_per_unit`); 0 refuses everything.
    pub requests: u32,
    /// Length of the window: `unit` × `unit_multiplier`, or `window`; 1 µs to [`WINDOW_MAX`].
    pub window: Micros,
    pub algorithm: Algorithm,
    /// Number of sub-windows of a sliding window, 1 to 64; other algorithms ignore it.
    pub sub_windows: u8,
    /// Capacity of a bucket in hits; window algorithms ignore it.
    pub burst: u32,
}

pub const SUB_WINDOWS_DEFAULT: u8 = 32;
pub const SUB_WINDOWS_MAX: u8 = 64;

/// Largest limit of an exact log. It keeps every hit, so beyond this its memory and its cost for each decision are no
/// longer small.
pub const SLIDING_LOG_MAX: u32 = 10_000;

impl Limit {
    /// A limit with the defaults of its algorithm: a token bucket holds a window's worth, a leaky bucket one hit.
    pub const fn new(requests: u32, window: Micros, algorithm: Algorithm) -> Limit {
        let burst = if matches!(algorithm, Algorithm::LeakyBucket) { 1 } else { requests };
        Limit { requests, window, algorithm, sub_windows: SUB_WINDOWS_DEFAULT, burst }
    }
}

/// One key and value of a descriptor, borrowed from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub key: &'a str,
    pub value: &'a str,
}

/// An ordered list of entries, with what it costs.
#[derive(Clone, Debug, Default)]
pub struct Descriptor<'a> {
    pub entries: SmallVec<[Entry<'a>; 2]>,
    /// The descriptor's own cost in hits, if it has one: 0 only looks, a negative cost is a refund.
    pub hits: Option<i64>,
    /// A limit that the request itself brings (Envoy's `limit`). It beats the rule in a file.
    pub limit: Option<(u32, Unit)>,
}

/// A request: may this pass? Three descriptors of two entries need no allocation; more inline space would be moved
/// about with every request.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    pub domain: &'a str,
    pub descriptors: SmallVec<[Descriptor<'a>; 3]>,
    /// Hits of each descriptor that has no cost of its own; at least 1.
    pub hits: i64,
    /// A limit of the caller's own. It applies to the last descriptor in place of any rule, under a key that no rule
    /// has: the key of its first entry is empty.
    pub caller_limit: Option<&'a Limit>,
    pub origin: Origin,
}

impl Request<'_> {
    /// The cost of a descriptor of this request in hits, not clamped.
    pub fn hits_of(&self, descriptor: &Descriptor<'_>) -> i64 {
        descriptor.hits.unwrap_or(self.hits.max(1))
    }
}

/// Envoy's `Code`, without UNKNOWN, because a decision is always one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Ok,
    OverLimit,
}

/// A counter's answer to one check.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub admitted: bool,
    /// How many more requests of 1 hit would be admitted now. For a refused cost that is charged all the same: how many
    /// would have been admitted in its place, which metrics need; none is admitted after it.
    pub remaining: u64,
    /// Time until something changes. If refused: until the same cost would be admitted (the window, if it never can
    /// be). If admitted with some remaining: until the counter would be empty. If admitted with none remaining: until
    /// one more hit would be admitted.
    pub reset: Micros,
}

/// The cost of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cost {
    /// 0 only looks and counts nothing; negative is a refund; clamped to ±[`HITS_MAX`].
    pub hits: i64,
    /// Whether the hits are charged even if they are refused.
    pub charge_denied: bool,
}
