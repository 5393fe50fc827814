//! How many files this process may have open. The soft limit is often 1,024, for programs that would break with more; each
//! connection takes one, so it is raised to the hard one, as Go's programs do.

use rlimit::Resource;
use tracing::warn;

use crate::settings::OverloadSettings;

/// Listeners with `TOLLGATE_MAX_HTTP_CONNECTIONS` places each.
const HTTP_LISTENERS: u64 = 3;

/// Listeners, connections to Redis, rule files, watches, runtimes.
const OTHERS: u64 = 200;

/// Raises the limit, and says so where the bounds on connections exceed it all the same.
pub(super) fn raise(bounds: &OverloadSettings) {
    let allowed = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(allowed) => allowed,
        Err(error) => {
            warn!(%error, "can't raise the limit of open files");
            // Without either nothing can be compared.
            let Ok((soft, _)) = Resource::NOFILE.get() else { return };
            soft
        }
    };
    let (grpc, http) = (bounds.grpc_connections_max as u64, bounds.http_connections_max as u64);
    let wanted = grpc.saturating_add(http.saturating_mul(HTTP_LISTENERS)).saturating_add(OTHERS);
    if allowed < wanted {
        warn!(
            allowed,
            wanted,
            "the limit of open files is below the limit of connections, so not all of them can be accepted; raise the hard limit (ulimit -Hn, \
             LimitNOFILE) or lower TOLLGATE_MAX_GRPC_CONNECTIONS and TOLLGATE_MAX_HTTP_CONNECTIONS"
        );
    }
}
