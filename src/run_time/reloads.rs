//! The last reloads of this replica's rules, for whoever asks what changed. It knows neither files nor control planes.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::{limit::UnixMicros, rules::LimitChange};

/// Reloads that are remembered.
const RELOADS_MAX: usize = 100;

/// Changes of limits that are remembered of one reload.
const CHANGES_MAX: usize = 200;

/// Rules that came into force in place of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    pub at: UnixMicros,
    /// The version of the rules in this process.
    pub version: u64,
    pub hash: Box<str>,
    pub changes: Vec<LimitChange>,
    /// Number of further changes, which aren't remembered.
    pub more: usize,
}

/// Remembers reloads, newest last.
#[derive(Debug, Default)]
pub struct Reloads {
    kept: Mutex<VecDeque<Reload>>,
}

impl Reloads {
    pub fn note(&self, mut reload: Reload) {
        reload.more += reload.changes.len().saturating_sub(CHANGES_MAX);
        reload.changes.truncate(CHANGES_MAX);
        let mut kept = self.kept.lock();
        kept.push_back(reload);
        if kept.len() > RELOADS_MAX {
            kept.pop_front();
        }
    }

    /// Those from `since` on, newest first.
    pub fn since(&self, since: UnixMicros) -> Vec<Reload> {
        self.kept.lock().iter().rev().take_while(|reload| reload.at >= since).cloned().collect()
    }
}
