//! A limiter without a service: rules from files, counters in this process' memory. For what the command line asks of
//! rules alone.

use std::sync::Arc;

use arc_swap::ArcSwap;
use clap::Args;

use crate::{
    limit::UnixMicros,
    limiter::{Budgets, Fallback, Limiter, Modes, Snapshot},
    metrics::{Meters, Metrics},
    rules::{LoadedTexts, Problems, Rules},
    settings::{Flags, Settings},
    store::{
        Store,
        memory::{Memory, MemorySettings},
    },
};

/// Who asks names users one by one: more counters than fit in here can't come together.
const COUNTERS_BYTES: u64 = 64 << 20;

/// What serving can be told of the limits that leave something out, by the same names.
#[derive(Args)]
pub(super) struct DefaultsArgs {
    /// envoyproxy: the defaults of algorithm and count-denied are fixed_window and true
    #[arg(long, value_name = "NAME", env = "TOLLGATE_COMPAT")]
    compat: Option<String>,
    /// Algorithm of limits that name none [default: sliding_window]
    #[arg(long, value_name = "NAME", env = "TOLLGATE_ALGORITHM")]
    algorithm: Option<String>,
    /// Do refused hits consume the limit: auto (where Envoy reports them afterwards), reported, true, false [default: auto]
    #[arg(long, value_name = "WHEN", env = "TOLLGATE_COUNT_DENIED")]
    count_denied: Option<String>,
    /// With compat: denied hits don't count [default: false]
    #[arg(long, value_name = "BOOL", env = "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT")]
    stop_cache_key_increment_when_overlimit: Option<String>,
}

impl DefaultsArgs {
    fn flags(&self, merge_domains: bool) -> Flags {
        Flags {
            merge_domain_config: Some(merge_domains.to_string()),
            compat: self.compat.clone(),
            algorithm: self.algorithm.clone(),
            count_denied: self.count_denied.clone(),
            stop_cache_key_increment_when_overlimit: self.stop_cache_key_increment_when_overlimit.clone(),
            ..Flags::default()
        }
    }

    /// Whether nothing is told.
    pub(super) fn is_empty(&self) -> bool {
        let DefaultsArgs { compat, algorithm, count_denied, stop_cache_key_increment_when_overlimit } = self;
        let all = [compat, algorithm, count_denied, stop_cache_key_increment_when_overlimit];
        all.into_iter().flatten().all(String::is_empty)
    }

    pub(super) fn settings(&self, merge_domains: bool) -> anyhow::Result<Settings> {
        Ok(Settings::resolve(&self.flags(merge_domains))?)
    }
}

/// What serving can be told of decisions, by the same names.
#[derive(Args)]
pub(super) struct DecisionArgs {
    #[command(flatten)]
    defaults: DefaultsArgs,
    /// Answer OK to every request, and count and report as if not [default: false]
    #[arg(long, value_name = "BOOL", env = "SHADOW_MODE")]
    shadow_mode: Option<String>,
    /// Treat every rule as if it had quota_mode [default: false]
    #[arg(long, value_name = "BOOL", env = "QUOTA_MODE")]
    quota_mode: Option<String>,
}

impl DecisionArgs {
    pub(super) fn settings(&self, merge_domains: bool) -> anyhow::Result<Settings> {
        let flags = Flags {
            shadow_mode: self.shadow_mode.clone(),
            quota_mode: self.quota_mode.clone(),
            ..self.defaults.flags(merge_domains)
        };
        Ok(Settings::resolve(&flags)?)
    }
}

/// Rules as they are in force from the start.
pub(super) fn snapshot(rules: Rules, loaded_at: UnixMicros) -> Snapshot {
    let meters = Meters::new(&rules, None);
    let budgets = Budgets::new(&rules, None);
    let (problems, kept) = (Problems::default(), Vec::new());
    Snapshot {
        version: 1,
        rules,
        meters,
        budgets,
        problems,
        kept_domains: kept,
        texts: LoadedTexts::default(),
        loaded_at,
    }
}

/// With counters that are empty.
pub(super) fn limiter(rules: Rules, modes: Modes, loaded_at: UnixMicros) -> Limiter {
    let snapshot = snapshot(rules, loaded_at);
    let memory = || Arc::new(Memory::new(MemorySettings { max_bytes: COUNTERS_BYTES }));
    let degraded = Arc::new(Fallback::new(memory(), 1));
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
    Limiter::new(snapshot, Store::Memory(memory()), degraded, modes, Arc::new(Metrics::default()))
}
