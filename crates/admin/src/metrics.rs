use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The admin's metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    pub(crate) revision: Gauge,
    sessions: Gauge,
    pub(crate) sessions_behind: Counter<u64, AtomicU64>,
    fence_seconds: Histogram,
    fences_unfinished: Counter<u64, AtomicU64>,
    heartbeats_failed: Counter<u64, AtomicU64>,
    forks: Counter<u64, AtomicU64>,
    unaccepted_epoch: Gauge,
    withheld_tokens: Gauge,
    pub(crate) peers_elsewhere: Gauge,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CallLabels {
    method: String,
    code: String,
}

impl Metrics {
    /// New metrics, and the registry that renders them.
    pub fn new() -> (Self, Arc<Registry>) {
        let metrics = Self {
            calls: Family::default(),
            revision: Gauge::default(),
            sessions: Gauge::default(),
            sessions_behind: Counter::default(),
            // 0.5 ms to 4 s.
            fence_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 14)),
            fences_unfinished: Counter::default(),
            heartbeats_failed: Counter::default(),
            forks: Counter::default(),
            unaccepted_epoch: Gauge::default(),
            withheld_tokens: Gauge::default(),
            peers_elsewhere: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("keyward_admin");
        registry.register("calls", "gRPC calls by method and code", metrics.calls.clone());
        registry.register("revision", "Newest revision that was published", metrics.revision.clone());
        registry.register("sessions", "Connected validators", metrics.sessions.clone());
        let help = "Sessions that ended because their validators renewed without applying changes";
        registry.register("sessions_behind", help, metrics.sessions_behind.clone());
        let help = "From a narrowing change's commit until no validator could answer from before it";
        registry.register("fence_seconds", help, metrics.fence_seconds.clone());
        let help = "Narrowing changes whose call ended before they were enforced";
        registry.register("fences_unfinished", help, metrics.fences_unfinished.clone());
        let help = "Heartbeats that the database did not answer; without heartbeats, leases expire";
        registry.register("heartbeats_failed", help, metrics.heartbeats_failed.clone());
        registry.register("forks", "Times that the database was found to have lost changes", metrics.forks.clone());
        let help = "1 while the database's history has forked and no owner has accepted it";
        registry.register("unaccepted_epoch", help, metrics.unaccepted_epoch.clone());
        let help = "Tokens that are withheld: denied because a lost history denied them";
        registry.register("withheld_tokens", help, metrics.withheld_tokens.clone());
        let help = "Other admins whose heartbeats another database server answers: two servers take writes";
        registry.register("peers_elsewhere", help, metrics.peers_elsewhere.clone());
        keyward_runtime::telemetry::register(&mut registry);
        keyward_runtime::connections::register(&mut registry);
        (metrics, Arc::new(registry))
    }

    pub(crate) fn connected(&self, sessions: usize) {
        self.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
    }

    pub(crate) fn heartbeat_failed(&self) {
        self.heartbeats_failed.inc();
    }

    pub(crate) fn forked(&self) {
        self.forks.inc();
    }

    pub(crate) fn history(&self, withheld: usize, accepted: bool) {
        self.withheld_tokens.set(i64::try_from(withheld).unwrap_or(i64::MAX));
        self.unaccepted_epoch.set(i64::from(!accepted));
    }

    pub(crate) fn call(&self, method: &str, code: tonic::Code) {
        let labels = CallLabels { method: method.to_owned(), code: format!("{code:?}") };
        self.calls.get_or_create(&labels).inc();
    }

    pub(crate) fn fence(&self, complete: bool, elapsed: Duration) {
        if complete {
            self.fence_seconds.observe(elapsed.as_secs_f64());
        } else {
            self.fences_unfinished.inc();
        }
    }
}
