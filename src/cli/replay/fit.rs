//! Which number a limit would have to have so that few of its clients are ever refused. A client is refused at some time if
//! and only if one window has more of its hits than the limit admits: until then nothing is refused, and all hits count. So the
//! fullest window of each counter, where nothing is refused, tells of every number at once whom it refuses.

#[cfg(test)]
mod tests;

use serde::Serialize;

use super::{scale::Scale, tally::LimitTally};

/// Parts that a share is divided into: six decimals of a per cent.
const WHOLE: u64 = 100_000_000;

/// Points of the curve, besides the share that is asked for.
const CURVE: [&str; 8] = ["p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99", "p100"];

/// A share of clients, as `p99.9`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quantile {
    name: String,
    /// Of [`WHOLE`].
    parts: u64,
}

/// What is proposed for one limit.
#[derive(Serialize)]
pub(super) struct Fit {
    pub(super) limit_id: String,
    /// The limit as it is, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<String>,
    /// Counters that were asked, without those of overrides.
    pub(super) counters: u64,
    pub(super) proposed: FitPoint,
    pub(super) curve: Vec<FitPoint>,
}

/// A number, and how many it refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct FitPoint {
    pub(super) quantile: String,
    /// Hits that the limit would admit in its window.
    pub(super) requests: u32,
    /// Counters that would ever be refused.
    pub(super) counters_refused: u64,
}

impl Quantile {
    /// Reads `p99.9`: at least that share is never refused.
    pub(super) fn parse(text: &str) -> Result<Quantile, String> {
        let wrong = || format!("'{text}' is no share of clients: write it as p99 or p99.9");
        let digits = text.strip_prefix(['p', 'P']).ok_or_else(wrong)?;
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > 6 || whole.len() > 3 {
            return Err(wrong());
        }
        let parts = format!("{whole}{decimals:0<6}").parse().ok().filter(|parts| *parts <= WHOLE).ok_or_else(wrong)?;
        Ok(Quantile { name: format!("p{digits}"), parts })
    }
}

/// `None` for a limit that can't be measured, or that nobody met.
pub(super) fn fit(limit: &LimitTally, asked: &Quantile, scale: Scale) -> Option<Fit> {
    let mut peaks: Vec<u32> = limit.counters.iter().map(|counter| counter.peak).filter(|peak| *peak > 0).collect();
    if peaks.is_empty() {
        return None;
    }
    peaks.sort_unstable();
    let scale = if limit.is_shared { Scale::ONE } else { scale };
    let known = CURVE.map(|name| Quantile::parse(name).expect("they are written here"));
    let mut shares: Vec<&Quantile> = known.iter().chain([asked]).collect();
    shares.sort_by_key(|share| share.parts);
    shares.dedup_by_key(|share| share.parts);
    Some(Fit {
        limit_id: limit.id.to_string(),
        limit: limit.words[0].clone(),
        counters: scale.of(peaks.len() as u64),
        proposed: point(&peaks, asked, scale),
        curve: shares.into_iter().map(|share| point(&peaks, share, scale)).collect(),
    })
}

/// The least number that refuses no more than the rest of the share. `peaks` are in order, and there is one.
fn point(peaks: &[u32], share: &Quantile, scale: Scale) -> FitPoint {
    let rest = (peaks.len() as u128 * u128::from(WHOLE - share.parts) / u128::from(WHOLE)) as usize;
    let requests = match peaks.len() - rest {
        0 => 0,
        within => peaks[within - 1],
    };
    let refused = peaks.len() - peaks.partition_point(|peak| *peak <= requests);
    FitPoint { quantile: share.name.clone(), requests, counters_refused: scale.of(refused as u64) }
}
