//! Clients that retry while they are refused.
