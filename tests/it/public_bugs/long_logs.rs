//! Logs with thousands of entries.
