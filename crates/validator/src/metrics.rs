use std::sync::Arc;

use keyward_domain::Verdict;
use keyward_replica::{AnyClock, Replica};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// The counters of the validator: one relaxed atomic increment per request. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// In the order of [`Verdict::ALL`]. An array, so that counting needs no look-up in the family.
    verdicts: [Counter; Verdict::ALL.len()],
    unavailable: Counter,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct VerdictLabel {
    verdict: String,
}

impl Metrics {
    pub(crate) fn new(replica: Arc<Replica<AnyClock>>) -> (Self, Arc<Registry>) {
        let family = Family::<VerdictLabel, Counter>::default();
        let verdicts =
            Verdict::ALL.map(|v| family.get_or_create_owned(&VerdictLabel { verdict: v.as_str().to_owned() }));
        let metrics = Self { verdicts, unavailable: Counter::default() };
        let mut registry = Registry::with_prefix("keyward_validator");
        registry.register("validations", "Validations by verdict", family);
        registry.register("unavailable", "Validations without an answer", metrics.unavailable.clone());
        registry.register_collector(Box::new(ReplicaCollector(replica)));
        keyward_runtime::telemetry::register(&mut registry);
        keyward_runtime::connections::register(&mut registry);
        (metrics, Arc::new(registry))
    }

    pub(crate) fn verdict(&self, verdict: Verdict) {
        if let Some(counter) = self.verdicts.get(verdict as usize) {
            counter.inc();
        }
    }

    pub(crate) fn unavailable(&self) {
        self.unavailable.inc();
    }
}

/// Reads the gauges from the replica at each scrape.
#[derive(Debug)]
struct ReplicaCollector(Arc<Replica<AnyClock>>);

impl Collector for ReplicaCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let tokens = i64::try_from(self.0.tokens()).unwrap_or(i64::MAX);
        let gauges = [
            ("lease", "1 while this validator may answer", i64::from(self.0.holds_lease())),
            ("revision", "Revision of the replica", self.0.revision().0),
            ("tokens", "Tokens in memory", tokens),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
