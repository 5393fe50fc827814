//! The table of every metric: name, kind, labels and help. The page that Prometheus scrapes is written in its order,
//! and `docs/src/reference/metrics-all.md` is made from it, so that neither can have a metric that the other lacks.

/// How a metric's number behaves, in Prometheus' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, and begins at 0 with each process.
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// When a metric is on the page, and under which heading it is documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// On every page, if only by name: a metric of limits has no series before their first decision.
    Always,
    ControlPlane,
    Memory,
    RunTimeOverrides,
    Redis,
    Tracing,
    /// The names of envoyproxy/ratelimit, where USE_PROMETHEUS asks for them.
    Envoyproxy,
    /// Those of its pools and of its local cache, where there is a Redis besides.
    EnvoyproxyPools,
    /// Metrics whose names, not labels, hold a rule's or a request's words: the table has the pattern of such names.
    EnvoyproxyNamed,
}

impl Section {
    pub(super) const ALL: [Section; 9] = [
        Section::Always,
        Section::ControlPlane,
        Section::Memory,
        Section::RunTimeOverrides,
        Section::Redis,
        Section::Tracing,
        Section::Envoyproxy,
        Section::EnvoyproxyPools,
        Section::EnvoyproxyNamed,
    ];

    /// What stands above its metrics in the documentation.
    pub(super) const fn heading(self) -> &'static str {
        match self {
            Section::Always => "On every page",
            Section::ControlPlane => "With a control plane",
            Section::Memory => "With the memory store",
            Section::RunTimeOverrides => "With overrides and switches that were set at run time",
            Section::Redis => "With Redis",
            Section::Tracing => "With `TRACING_ENABLED`",
            Section::Envoyproxy => "With `USE_PROMETHEUS=true`: the names of envoyproxy/ratelimit",
            Section::EnvoyproxyPools => "With `USE_PROMETHEUS=true` and Redis",
            Section::EnvoyproxyNamed => "With `USE_PROMETHEUS=true`: names that hold a rule's or a request's words",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) metric: Metric,
    pub(super) section: Section,
    pub(super) kind: Kind,
    /// As dashboards and alerts know it.
    pub(super) name: &'static str,
    /// In the order in which series show them.
    pub(super) labels: &'static [&'static str],
    /// In the Markdown of the documentation; the page leaves the backticks out.
    pub(super) help: &'static str,
}

impl Metric {
    pub(super) fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The metric of a series that was registered under `name`.
    pub(super) fn named(name: &str) -> Option<Metric> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.metric)
    }
}

macro_rules! table {
    ($($section:ident { $($metric:ident $kind:ident $name:literal [$($label:ident)*] $help:literal)* })*) => {
        /// A metric of the [`TABLE`], by its position there.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(super) enum Metric { $($($metric,)*)* }

        pub(super) static TABLE: [Row; [$($(Metric::$metric,)*)*].len()] = [$($(Row {
            metric: Metric::$metric,
            section: Section::$section,
            kind: Kind::$kind,
            name: $name,
            labels: &[$(stringify!($label)),*],
            help: $help,
        },)*)*];
    };
}

table! {
    Always {
        Requests Counter "tollgate_requests_total" [code] "Requests by their overall answer: ok, over_limit, invalid, \
            error."
        Decisions Counter "tollgate_decisions_total" [domain limit result] "Decisions of each limit: ok, over_limit, \
            shadow (it would have been refused, but the limit isn't enforced)."
        DecisionDuration Histogram "tollgate_decision_duration_seconds" [] "From a request's arrival to its answer."
        StoreDuration Histogram "tollgate_store_duration_seconds" [] "From a question to Redis to its answer, with \
            the time in which it waited to be sent."
        StoreErrors Counter "tollgate_store_errors_total" [kind] "Requests that the store could not answer: \
            unreachable, timeout, refused, overloaded, defect."
        OverdueAdmissions Counter "tollgate_overdue_admissions_total" [] "Requests that a failure policy admitted \
            because Redis, though connected, did not answer in time: what is above the limit with a healthy Redis is \
            among them."
        DegradedDecisions Counter "tollgate_degraded_decisions_total" [policy domain limit] "Requests that a failure \
            policy answered in the store's place, each under the limit whose policy it was: the first that refused, \
            else the first of the request."
        LimitRequests Gauge "tollgate_limit_requests" [limit] "The number of each limit: hits in its window."
        OverrideFileRows Gauge "tollgate_override_file_rows" [domain] "Overrides in the rule files of a domain and in \
            the files that they name."
        OverrideFileRowsExpired Gauge "tollgate_override_file_rows_expired" [domain] "Those of them that have \
            expired, and have no effect: remove them at leisure."
        UnmatchedDescriptors Counter "tollgate_unmatched_descriptors_total" [domain keys] "Descriptors of a known \
            domain that no rule matched, by their keys: a rule that is missing or misspelt."
        UnknownDomainRequests Counter "tollgate_unknown_domain_requests_total" [] "Requests for a domain that no rule \
            file names."
        RulesLastReloadSuccessful Gauge "tollgate_rules_last_reload_successful" [] "1 if the rules on disk are in \
            force, 0 while a domain keeps older ones: alert on it."
        RulesLastReloadSuccess Gauge "tollgate_rules_last_reload_success_timestamp_seconds" [] "When the rules on \
            disk last came into force."
        RulesReloads Counter "tollgate_rules_reloads_total" [result] "Times that changed rules were read: success if \
            every domain took them, else failure."
        RulesVersion Gauge "tollgate_rules_version" [] "Counts the swaps of rules since start."
        RulesDomains Gauge "tollgate_rules_domains" [] "Domains that have rules in force; with 0 nothing is limited: \
            alert on it."
        RulesInfo Gauge "tollgate_rules_info" [hash] "Always 1; the hash is equal on replicas with equal rules."
        Replicas Gauge "tollgate_replicas" [] "Replicas that were last seen in Redis, this one included; 0 until then."
        GrpcConnections Gauge "tollgate_grpc_connections" [] "Open gRPC connections."
        TlsHandshakeFailures Counter "tollgate_tls_handshake_failures_total" [reason] "Clients that TLS kept out: \
            unknown_authority, expired, wrong_name, no_certificate, refused_by_client (our certificate), not_tls, \
            timeout, other."
        TopBytes Gauge "tollgate_top_bytes" [] "Bytes that the lists of who is refused most take \
            (`TOLLGATE_TOP_MAX_BYTES`)."
        DecisionLogLines Counter "tollgate_decision_log_lines_total" [] "Lines that were written to the decision log."
        DecisionLogLost Counter "tollgate_decision_log_lines_lost_total" [reason] "Decisions that the decision log lacks: \
            slow (it was slower than decisions), unwritable (the file could not be written)."
        SeriesCapped Counter "tollgate_metric_series_capped_total" [] "What was counted as `other`, because \
            clients' words may not make more series."
        SlidingLogFallbacks Counter "tollgate_sliding_log_fallbacks_total" [] "Limits above 10,000 that came with \
            requests where `TOLLGATE_ALGORITHM` is `sliding_log`: decided as `sliding_window`."
        LimitsWithoutUnit Counter "tollgate_limits_without_unit_total" [] "Limits that came with requests and had no \
            unit (UNKNOWN, or a number that is none): the rule decided in their place."
        ShedRequests Counter "tollgate_shed_requests_total" [] "Requests that found `TOLLGATE_MAX_IN_FLIGHT` others \
            under way: answered by policy, or refused before they were read."
        RefusedChecks Counter "tollgate_refused_checks_total" [reason] "Checks (`/json`, `/v1/check`, `Check`) that \
            were refused undecided, because what they bring needs a token: window (a limit over a longer one than \
            `TOLLGATE_CHECK_WINDOW_MAX`), new_counters (more than `TOLLGATE_CHECK_NEW_COUNTERS`), bucket (a limit \
            over `/json` where `TOLLGATE_ALGORITHM` is a bucket), return (negative hits without the scope \
            `hits.return`)."
        SlowClients Counter "tollgate_slow_clients_total" [listener] "Clients that did not send or take in time what \
            they had to, by where: grpc, http, admin, metrics."
        RefusedConnections Counter "tollgate_refused_connections_total" [listener] "Connections beyond the bound, \
            closed at once."
        BrokenConnections Counter "tollgate_broken_connections_total" [listener] "Connections ended for what the \
            client did on them."
        RefusedStreams Counter "tollgate_refused_streams_total" [reason] "Calls and connections that HTTP/2 or gRPC \
            refused before a limit was asked: alert on it, as Envoy may let their requests pass. The log says what to \
            change, once a minute for each reason."
        Panics Counter "tollgate_panics_total" [] "Defects that were caught on a request's path and answered by \
            policy; please report them."
        BuildInfo Gauge "tollgate_build_info" [version] "Always 1."
    }
    ControlPlane {
        ControlPlaneConnected Gauge "tollgate_control_plane_connected" [] "0 while there is no connection to it, and \
            the rules stay as they are: alert on it."
    }
    Memory {
        MemoryCounters Gauge "tollgate_memory_counters" [] "Counters in memory."
        MemoryBytes Gauge "tollgate_memory_bytes" [] "Bytes that they take."
        MemoryExpired Counter "tollgate_memory_expired_total" [] "Counters that were swept out."
        MemoryThinned Counter "tollgate_memory_thinned_total" [] "Times that a counter of a sliding window or log was \
            made coarser, because there was no room for it to grow: it counts no less, and some of it for longer."
        MemorySetBackCounters Counter "tollgate_memory_set_back_counters_total" [] "Counters ahead of the clock by \
            more than a window that were set back: the clock of this machine was changed."
        MemoryOverflowHits Counter "tollgate_memory_overflow_hits_total" [] "Hits on counters that several keys \
            share, because `TOLLGATE_MEMORY_MAX_BYTES` is reached: alert on it."
    }
    RunTimeOverrides {
        RunTimeOverrides Gauge "tollgate_run_time_overrides" [domain] "Overrides that were set at run time, as this \
            replica knows them."
        RunTimeOverridesExpired Gauge "tollgate_run_time_overrides_expired" [domain] "Those of them that have ended \
            and wait to be removed."
        RunTimeOverridesGeneration Gauge "tollgate_run_time_overrides_generation" [domain] "The last write that this \
            replica knows; equal on all of them."
        RunTimeOverridesSyncAge Gauge "tollgate_run_time_overrides_sync_age_seconds" [] "Since this replica last knew \
            that it has every write, or since it began to ask, if Redis never answered; 0 where nobody else writes. \
            Alert when it grows."
        LimitSwitchEnds Gauge "tollgate_limit_switch_ends_seconds" [domain limit mode] "When the switch of a limit ends by \
            itself, in seconds since the epoch; `*` is every limit of the domain. Only of switches that hold."
        LimitSwitchSince Gauge "tollgate_limit_switch_since_seconds" [domain limit mode] "When it was made, likewise."
        RunTimeOverridesLost Counter "tollgate_run_time_overrides_lost_total" [] "Times that Redis had lost \
            overrides, which were then written back: alert on it."
    }
    Redis {
        OwedCounters Gauge "tollgate_owed_counters" [] "Counters with hits that a fallback admitted and that are not \
            yet charged in Redis."
        OwedHits Counter "tollgate_owed_hits_total" [outcome] "Hits that were admitted locally while Redis was away, \
            by what became of their charge: charged, expired, dropped, lost."
        RedisConnections Gauge "tollgate_redis_connections" [] "Connections in use, one for each core."
        RedisBreakersOpen Gauge "tollgate_redis_breakers_open" [] "Circuit breakers that are open, one for each core \
            and node: failure policies answer in that node's place."
        RedisBreakerOpens Counter "tollgate_redis_breaker_opens_total" [] "Times that one opened."
        RedisConnects Counter "tollgate_redis_connects_total" [] "Connections made."
        RedisConnectFailures Counter "tollgate_redis_connect_failures_total" [] "Attempts to connect that failed."
        RedisBatches Counter "tollgate_redis_batches_total" [] "Scripts sent; a script decides the requests that \
            gathered while the last one was under way."
        RedisBatchRequests Counter "tollgate_redis_batch_requests_total" [] "Requests in them."
        RedisBatchCounters Counter "tollgate_redis_batch_counters_total" [] "Counters in them."
        RedisMergedRequests Counter "tollgate_redis_merged_requests_total" [] "Requests that shared the work of an \
            identical one."
        RedisDeniedAgain Counter "tollgate_redis_denied_again_total" [] "Requests denied from the denial cache, \
            without asking Redis."
        RedisLateBatches Counter "tollgate_redis_late_batches_total" [] "Scripts that reached Redis after their \
            deadline and charged nothing."
        RedisTimeouts Counter "tollgate_redis_timeouts_total" [] "Requests whose answer did not come in time."
        RedisUnreachable Counter "tollgate_redis_unreachable_total" [] "Requests for which no connection stood."
        RedisRefused Counter "tollgate_redis_refused_total" [] "Requests that Redis answered with an error."
        RedisOverloaded Counter "tollgate_redis_overloaded_total" [] "Requests that found too many others waiting."
        RedisRefunds Counter "tollgate_redis_refunds_total" [] "Charges in a Cluster, or in one of two Redis, that \
            were given back, since a later part denied the request or got no answer, or the caller went away."
        RedisRefundsFailed Counter "tollgate_redis_refunds_failed_total" [] "Those of them that had no answer in time \
            (the deadline, at least 250 ms): what they were to give back may stay charged until the window is over."
        RedisElsewhere Counter "tollgate_redis_elsewhere_total" [] "Requests of a Cluster that a node did not decide with \
            the others of its batch, because a slot has moved or is moving: they were sent again by their slots."
        RedisNodesBySlot Gauge "tollgate_redis_nodes_by_slot" [] "Nodes of a Cluster that forbid scripts over several \
            slots, one for each core: their batches hold one slot each, and cost more."
        RedisEvictedKeys Counter "tollgate_redis_evicted_keys_total" [] "Keys that Redis threw out for lack of room, \
            looked at every 5 s (its user needs `+info`)."
        RedisLayoutMismatches Counter "tollgate_redis_layout_mismatches_total" [] "Connections that found that \
            another replica makes its keys otherwise (buckets, default algorithm); `/readyz` says how."
        RedisDamagedCounters Counter "tollgate_redis_damaged_counters_total" [] "Counters that held something else \
            and began afresh."
        RedisSetBackCounters Counter "tollgate_redis_set_back_counters_total" [] "Counters ahead of Redis' clock that \
            were set back."
    }
    Tracing {
        TraceSpansSent Counter "tollgate_trace_spans_sent_total" [] "Spans that the collector took."
        TraceSpansDropped Counter "tollgate_trace_spans_dropped_total" [] "Spans that found no room to wait, or that \
            it refused."
    }
    Envoyproxy {
        NearLimit Counter "ratelimit_service_rate_limit_near_limit" [domain key1 key2] "Hits beyond \
            `NEAR_LIMIT_RATIO` of the limit, and within it."
        OverLimit Counter "ratelimit_service_rate_limit_over_limit" [domain key1 key2] "Hits beyond the limit."
        ShadowMode Counter "ratelimit_service_rate_limit_shadow_mode" [domain key1 key2] "Those of them that a shadow \
            let pass."
        TotalHits Counter "ratelimit_service_rate_limit_total_hits" [domain key1 key2] "Hits put to each rule's \
            counters, refused ones included."
        WithinLimit Counter "ratelimit_service_rate_limit_within_limit" [domain key1 key2] "Hits that the rule let \
            pass."
        ShouldRateLimitError Counter "ratelimit_service_should_rate_limit_error" [err_type] "Requests answered with \
            an error: redis_error, service_error (one of the request)."
        ConfigLoadSuccess Counter "ratelimit_service_config_load_success" [] "Times that every rule file was taken."
        ConfigLoadError Counter "ratelimit_service_config_load_error" [] "Times that one was not."
        GlobalShadowMode Counter "ratelimit_service_global_shadow_mode" [] "Requests that `SHADOW_MODE` let pass."
        TotalRequests Counter "ratelimit_service_total_requests" [grpc_method] "Calls of ShouldRateLimit, `/json` \
            included, and of Check, which is gRPC health."
        ResponseTime Histogram "ratelimit_service_response_time_seconds" [grpc_method] "From a call's arrival to its \
            answer; with `PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS` in milliseconds, in buckets of the same numbers."
    }
    EnvoyproxyPools {
        PoolActive Gauge "ratelimit_redis_pool_cx_active" [] "Connections to Redis that stand."
        PoolTotal Counter "ratelimit_redis_pool_cx_total" [] "Connections made."
        PoolClosed Counter "ratelimit_redis_pool_cx_local_close" [] "Connections that ended, whoever ended them."
        PerSecondPoolActive Gauge "ratelimit_redis_per_second_pool_cx_active" [] "Connections to the second Redis \
            (`REDIS_PERSECOND`) that stand."
        PerSecondPoolTotal Counter "ratelimit_redis_per_second_pool_cx_total" [] "Connections made to it."
        PerSecondPoolClosed Counter "ratelimit_redis_per_second_pool_cx_local_close" [] "Connections to it that \
            ended, whoever ended them."
        LocalCacheHits Gauge "ratelimit_localcache_hitCount" [] "Descriptors over their limit in requests that the \
            denial cache answered, which stands for the local cache there. With `TOLLGATE_COMPAT` there are these \
            four only where `LOCAL_CACHE_SIZE_IN_BYTES` isn't 0."
        LocalCacheMisses Gauge "ratelimit_localcache_missCount" [] "All other descriptors that met a limit."
        LocalCacheLookups Gauge "ratelimit_localcache_lookupCount" [] "Both."
        LocalCacheEntries Gauge "ratelimit_localcache_entryCount" [] "Denials in the cache."
    }
    EnvoyproxyNamed {
        OverLimitWithLocalCache Counter "ratelimit_service_rate_limit_<domain>_<levels>_over_limit_with_local_cache" [] "\
            Hits of a rule that the denial cache refused."
        TotalNegativeHits Counter "ratelimit_service_rate_limit_<domain>_<levels>_total_negative_hits" [] "Hits of a \
            rule that were to be given back (`is_negative_hits`)."
        DomainNotFound Counter "ratelimit_service_rate_limit_<domain>_domain_not_found" [] "Descriptors of a domain \
            that no rule file names, up to 256 domains."
    }
}
