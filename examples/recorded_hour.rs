//! Writes a recorded hour as a log for `tollgate replay`.
//!
//! ```text
//! cargo run --example recorded_hour 200000 5000 > hour.ndjson
//! ```

#[path = "support/recorded_hour.rs"]
mod recorded_hour;

use std::io::Write as _;

use anyhow::Context as _;
use recorded_hour::RecordedHour;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: usize| args.next().map_or(Ok(default), |text| text.parse()).context("a number");
    let hour = RecordedHour { requests: number(200_000)?, users: number(5_000)?.max(1), seed: number(1)? as u64 };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut line = String::new();
    for request in hour.requests() {
        line.clear();
        request.line(&mut line);
        out.write_all(line.as_bytes())?;
    }
    Ok(out.flush()?)
}
