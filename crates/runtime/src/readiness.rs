//! Readiness of a role: one source for `/readyz` and for the gRPC health service, which therefore never differ.

use std::convert::Infallible;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;
use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;

use crate::grpc::HEALTH_MESSAGE_LIMIT;
use crate::shutdown::Shutdown;

/// How often the health service follows the readiness. Requests check what they need themselves.
const INTERVAL: Duration = Duration::from_millis(20);

/// The name that stands for the whole server in the gRPC health protocol.
const WHOLE_SERVER: &str = "";

/// Returns why a role is not ready. Cheap to clone; all clones share one source.
#[derive(Clone)]
pub struct Readiness {
    cause: Arc<dyn Fn() -> Option<&'static str> + Send + Sync>,
    shutdown: Shutdown,
}

impl Readiness {
    /// Creates the readiness of a role. `cause` returns why the role cannot do its work now, or `None` if it can. A role that
    /// is shutting down is not ready in any case.
    pub fn new(shutdown: &Shutdown, cause: impl Fn() -> Option<&'static str> + Send + Sync + 'static) -> Self {
        Self { cause: Arc::new(cause), shutdown: shutdown.clone() }
    }

    /// Returns why the role is not ready, or `None` if it is ready.
    pub fn why_not(&self) -> Option<&'static str> {
        if self.shutdown.is_leaving() { Some("shutting down") } else { (self.cause)() }
    }

    /// Returns the gRPC health service of the role's listener, and the task that keeps it up to date.
    ///
    /// The service reports the readiness for the whole server (the empty name) and for each of `services`, which are full
    /// names, such as `keyward.validate.v1.ValidateService`. The status is right from the first request on.
    pub async fn health(
        self,
        services: &'static [&'static str],
    ) -> (HealthServer<impl Health>, impl Future<Output = Infallible> + Send) {
        let (reporter, service) = tonic_health::server::health_reporter();
        let status = self.status();
        report(&reporter, services, status).await;
        let service = service.max_decoding_message_size(HEALTH_MESSAGE_LIMIT);
        (service, self.follow(reporter, services, status))
    }

    async fn follow(
        self,
        reporter: HealthReporter,
        services: &'static [&'static str],
        mut reported: ServingStatus,
    ) -> Infallible {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let status = self.status();
            if status != reported {
                report(&reporter, services, status).await;
                reported = status;
            }
        }
    }

    fn status(&self) -> ServingStatus {
        if self.why_not().is_none() { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

impl Debug for Readiness {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("why_not", &self.why_not()).finish()
    }
}

async fn report(reporter: &HealthReporter, services: &[&str], status: ServingStatus) {
    reporter.set_service_status(WHOLE_SERVER, status).await;
    for service in services {
        reporter.set_service_status(*service, status).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_role_that_is_shutting_down_is_not_ready() {
        let (trigger, shutdown) = crate::shutdown::channel();
        let broken = Arc::new(AtomicBool::new(false));
        let cause = Arc::clone(&broken);
        let readiness = Readiness::new(&shutdown, move || cause.load(Ordering::Relaxed).then_some("broken"));
        assert_eq!(readiness.why_not(), None);
        broken.store(true, Ordering::Relaxed);
        assert_eq!(readiness.why_not(), Some("broken"));
        broken.store(false, Ordering::Relaxed);
        trigger.announce();
        assert_eq!(readiness.why_not(), Some("shutting down"));
    }
}
