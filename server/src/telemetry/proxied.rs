//! Telemetry of `orch proxy`: what its clients' requests came to, for a collector.

use std::sync::Arc;
use std::time::Duration;

use orch_proxy::{Decision, OnDecision};

use super::{Destination, Exporting, Telemetry};
use crate::config::Config;
use crate::failure::Failure;
use crate::upstream::internet;

/// For what a collector has not been told when the proxy ends.
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// Counts decisions and tells a collector.
pub struct ProxyTelemetry {
    telemetry: Arc<Telemetry>,
    exporting: Exporting,
}

impl ProxyTelemetry {
    /// Begins to tell the collector of the configuration or the environment, on the runtime that this is called in; none
    /// where neither names one.
    ///
    /// # Errors
    /// When the way to it cannot be made.
    pub fn start(config: &Config) -> Result<Option<Self>, Failure> {
        let Some(to) = Destination::of(&config.telemetry, &config.otel) else { return Ok(None) };
        let telemetry = Arc::<Telemetry>::default();
        let exporting = telemetry.export(internet(config)?, to);
        Ok(Some(Self { telemetry, exporting }))
    }

    /// The same witness of decisions, and they are counted.
    #[must_use]
    pub fn counting(&self, told: OnDecision) -> OnDecision {
        let telemetry = Arc::clone(&self.telemetry);
        Box::new(move |decision: &Decision| {
            telemetry.counters.count(decision);
            told(decision);
        })
    }

    /// Tells the collector what it has not been told yet, and waits no longer for it than a moment.
    pub async fn end(self) {
        self.exporting.end(LAST_EXPORT).await;
    }
}
