//! A log as Redis has it: a ring of slots, so that a hit writes one slot and the header, and nothing is ever moved. A
//! slot also has the sum of all hits up to its own, so that Lua finds what has left the window by binary search. Only
//! Lua (`store/redis/log.lua`) writes it; here it is read whole, to show people a counter. It knows no arithmetic of
//! limits.
//!
//! The header, `<I6I7I6I6I7I3I3I3`, 41 B: deadline, newest time, sum of the hits that are held, sum of all hits before them,
//! shift, slot of the oldest entry, entries, slots. Then the slots, `<I7I6`, 13 B each: time plus shift, sum of the hits up to and
//! with this one. The entries lie from the oldest on, behind the last slot in the first again; the other slots mean nothing.
//!
//! The shift is by how much the clock was set back in all: so that costs a log no more than a look. Sums begin again at 2^48:
//! they only matter as differences, and all that a log holds is less.

use super::{ByteReader, DEADLINE, WHOLE_MAX};
use crate::algorithm::{
    State,
    log::{ENTRY, Log},
};

const SLOT: usize = 13;
const SUM_MAX: u64 = 1 << 48;
/// Largest shift. Beyond it Lua writes all times anew, because times with the shift must stay below 2^53.
const SHIFT_MAX: u64 = 1 << 50;

pub(in crate::algorithm) fn decode(bytes: &[u8]) -> Option<State> {
    if bytes.is_empty() {
        return Some(State::Empty);
    }
    let mut rest = ByteReader(bytes);
    rest.number(DEADLINE)?;
    let newest = rest.number(7).filter(|newest| *newest < WHOLE_MAX)?;
    let sum = rest.number(6)?;
    let base = rest.number(6)?;
    let shift = rest.number(7).filter(|shift| *shift <= SHIFT_MAX)?;
    let [first, live, slots] = [rest.number(3)? as usize, rest.number(3)? as usize, rest.number(3)? as usize];
    if first >= slots || live > slots || (live > 0) != (sum > 0) {
        return None;
    }
    let ring = rest.bytes(slots * SLOT)?;
    if live == 0 {
        return Some(State::Empty);
    }
    let mut entries = Vec::with_capacity(live * ENTRY);
    let (mut before, mut latest) = (0, 0);
    for place in first..first + live {
        let mut slot = ByteReader(&ring[place % slots * SLOT..]);
        let time = slot.number(7)?.saturating_sub(shift);
        let upto = (slot.number(6)? + SUM_MAX - base) % SUM_MAX;
        let hits = u32::try_from(upto.checked_sub(before)?).ok()?;
        if time < latest || hits == 0 {
            return None;
        }
        entries.extend_from_slice(&time.to_le_bytes()[..7]);
        entries.extend_from_slice(&hits.to_le_bytes());
        (before, latest) = (upto, time);
    }
    (before == sum && latest == newest).then(|| State::Log { sum, log: Box::new(Log::from_packed(&entries)) })
}
