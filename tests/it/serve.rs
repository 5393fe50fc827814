//! What a running Tollgate promises to its clients and operators, asked of the real binary over its listeners.

mod bad_input;
mod breaker;
mod compressed;
mod cores;
mod health;
mod hostile;
mod idle;
mod late_answers;
mod lifecycle;
mod memory_room;
mod override_files;
mod owed;
mod random;
mod reload;
mod requests;
mod responses;
mod shutdown;
mod store_failure;
mod surfaces;
mod tls;
mod unix_socket;

/// One domain with a limit per user that no test reaches by accident.
pub(crate) const PER_USER: &str =
    "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {requests_per_unit: 3, unit: hour}\n";
