//! Faults that people met, each test named for what the person saw.

mod authority;
mod callers;
mod control_plane;
mod long_logs;
mod retries;
mod rule_files;
mod rule_sizes;
mod settings;
mod state_files;
mod unread_answers;
mod values;
