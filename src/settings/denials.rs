//! The size of the denial cache. It knows the variable's name, not what a denial is.

use clap::Args;

use super::{Flags, SettingsReader, parse};

/// Flags of remembered denials.
#[derive(Args, Clone, Debug, Default)]
pub struct DenialFlags {
    /// Memory of each core's denial cache, in bytes (8MiB, …); 0 turns it off [default: 8MiB]
    #[arg(long, value_name = "BYTES", env = "TOLLGATE_DENIALS_MAX_BYTES", help_heading = "Store")]
    pub denials_max_bytes: Option<String>,
}

pub(super) fn denials_max_bytes(flags: &Flags, read: &mut SettingsReader) -> usize {
    let bytes = read.or("TOLLGATE_DENIALS_MAX_BYTES", &flags.denials.denials_max_bytes, 8 << 20, parse::bytes);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
