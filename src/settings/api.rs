//! Who may use Tollgate's own API, and the domain of calls that name none.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{Flags, SettingsReader, parse, set};

/// Flags of the calls below `/v1` and of `tollgate.v1.Tollgate`.
#[derive(Args, Clone, Debug, Default)]
pub struct ApiFlags {
    /// Tokens that may use the API: lines of name:sha256:scope,scope; read again when it changes [default: none, and all but checks is refused]
    #[arg(long, value_name = "FILE", env = "TOLLGATE_API_TOKEN_FILE", help_heading = "API")]
    pub api_token_file: Option<String>,
    /// What needs a token: all, or all-but-checks [default: all-but-checks]
    #[arg(long, value_name = "WHAT", env = "TOLLGATE_API_AUTH", help_heading = "API")]
    pub api_auth: Option<String>,
    /// Domain of calls that name none [default: the only one, where one is loaded]
    #[arg(long, value_name = "DOMAIN", env = "TOLLGATE_DEFAULT_DOMAIN", help_heading = "API")]
    pub default_domain: Option<String>,
    /// Name of this replica in the fleet [default: that of its pod, or of its host with the gRPC port]
    #[arg(long, value_name = "NAME", env = "TOLLGATE_REPLICA_NAME", help_heading = "API")]
    pub replica_name: Option<String>,
    /// Longest window of a limit that a caller brings to a check without a token [default: 1h]
    #[arg(long, value_name = "DURATION", env = "TOLLGATE_CHECK_WINDOW_MAX", help_heading = "API")]
    pub check_window_max: Option<String>,
    /// New counters that such limits may begin in each second, on each replica; 0 is none [default: 100]
    #[arg(long, value_name = "N", env = "TOLLGATE_CHECK_NEW_COUNTERS", help_heading = "API")]
    pub check_new_counters: Option<String>,
}

#[derive(Clone, Debug)]
pub struct ApiSettings {
    pub token_file: Option<PathBuf>,
    pub checks_are_open: bool,
    pub default_domain: Option<String>,
    /// Name of this replica, if it isn't that of its pod or host.
    pub replica_name: Option<String>,
    /// Longest window of limits that callers without a token bring.
    pub check_window_max: Duration,
    /// Number of new counters of such limits that may begin in each second.
    pub check_new_counters: u32,
}

pub(super) fn api(flags: &Flags, read: &mut SettingsReader) -> ApiSettings {
    const WHAT: &[(&str, bool)] = &[("all-but-checks", true), ("all", false)];
    let flags = &flags.api;
    let token_file = set(&flags.api_token_file).map(PathBuf::from);
    let checks_are_open = read.or("TOLLGATE_API_AUTH", &flags.api_auth, true, parse::word(WHAT));
    if !checks_are_open && token_file.is_none() {
        read.missing("TOLLGATE_API_TOKEN_FILE", "is needed where TOLLGATE_API_AUTH is all, or nobody could check");
    }
    let hour = Duration::from_secs(3_600);
    let new_counters = read.or("TOLLGATE_CHECK_NEW_COUNTERS", &flags.check_new_counters, 100, parse::at_least(0));
    ApiSettings {
        token_file,
        checks_are_open,
        default_domain: set(&flags.default_domain).map(str::to_string),
        replica_name: set(&flags.replica_name).map(str::to_owned),
        check_window_max: read.or("TOLLGATE_CHECK_WINDOW_MAX", &flags.check_window_max, hour, parse::duration),
        check_new_counters: u32::try_from(new_counters).unwrap_or(u32::MAX),
    }
}
