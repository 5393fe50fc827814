//! Listeners: accepting, the threads that decide, connections and their TLS, and how long a client may take.

pub(crate) mod accept;
pub(crate) mod bind;
pub(crate) mod connection;
pub(crate) mod connection_limit;
pub(crate) mod core;
pub(crate) mod framing;
pub(crate) mod handshake;
pub(crate) mod http_listener;
pub(crate) mod preface;
pub(crate) mod timeouts;
pub(crate) mod tls;
