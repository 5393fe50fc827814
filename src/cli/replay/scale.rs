//! What the numbers of a sample are multiplied with, so that they are those of all clients.

use crate::limit::PARTS;

/// The share of clients whose requests there are, in parts.
#[derive(Clone, Copy)]
pub(super) struct Scale(u16);

impl Scale {
    pub(super) const ONE: Scale = Scale(PARTS);

    /// Of a sample of so many parts of the clients.
    pub(super) fn of_parts(parts: u16) -> Scale {
        Scale(parts.max(1))
    }

    pub(super) fn factor(self) -> f64 {
        f64::from(PARTS) / f64::from(self.0)
    }

    /// How many hits one stands for.
    pub(super) fn hits(self) -> u32 {
        self.of(1) as u32
    }

    pub(super) fn of(self, count: u64) -> u64 {
        let (parts, own) = (u128::from(PARTS), u128::from(self.0));
        ((u128::from(count) * parts + own / 2) / own) as u64
    }
}
