//! Builds a validator from its parts, and runs it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use keyward_domain::TokenSources;
use keyward_proto::envoy::authorization_server::AuthorizationServer;
use keyward_proto::validate::validate_service_server::ValidateServiceServer;
use keyward_replica::{AnyClock, Replica, ReplicaWriter};
use keyward_runtime::grpc::{VALIDATOR_MESSAGE_LIMIT, add_reflection, server};
use keyward_runtime::listener::Listener;
use keyward_runtime::ops::{self, Ops};
use keyward_runtime::readiness::Readiness;
use keyward_runtime::shutdown::{Shutdown, bounded};
use keyward_runtime::status::explain_unreadable;
use keyward_sync::{Subscriber, Upstream};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tower::util::MapResponseLayer;

use crate::front::{self, ExtAuthzApi, Gate, ValidateApi};
use crate::metrics::Metrics;
use crate::validate::Validator;

/// The services that reflection lists. Envoy's is left out, because ours is a subset of its package.
const REFLECTED: &[&str] = &["keyward.validate.v1.ValidateService", "grpc.health.v1.Health"];

/// Largest number of concurrent streams per connection. Gateways multiplex their requests over few connections.
const MAX_STREAMS: u32 = 1_024;

/// The services whose health is the readiness of the validator.
const HEALTH_OF: &[&str] = &["keyward.validate.v1.ValidateService", "envoy.service.auth.v3.Authorization"];

/// The validator's listeners, bound.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC: ValidateToken and Envoy's Check.
    pub grpc: Listener,
    /// The HTTP hook.
    pub hook: Listener,
    /// Probes and metrics.
    pub ops: Listener,
}

/// The validator role, ready to run.
#[derive(Debug)]
pub struct Role {
    replica: Arc<Replica<AnyClock>>,
    validator: Validator,
    gate: Gate,
    registry: Arc<Registry>,
    subscriber: Subscriber,
}

impl Role {
    /// Creates a validator with an empty replica. `token_sources` defines where gateways' requests carry tokens.
    /// `validator_id` is unique to this process; logs and receipts show it.
    pub fn new(upstream: Upstream, token_sources: TokenSources, validator_id: String) -> Self {
        Self::with_clock(AnyClock::Boot, upstream, token_sources, validator_id)
    }

    /// Creates a validator as [`Role::new`] does, with the clock of a simulation.
    #[cfg(feature = "simulation")]
    pub fn by_clock(clock: AnyClock, upstream: Upstream, token_sources: TokenSources, validator_id: String) -> Self {
        Self::with_clock(clock, upstream, token_sources, validator_id)
    }

    fn with_clock(clock: AnyClock, upstream: Upstream, token_sources: TokenSources, validator_id: String) -> Self {
        let replica = Arc::new(Replica::new(clock));
        let (metrics, registry) = Metrics::new(Arc::clone(&replica));
        let validator = Validator::new(Arc::clone(&replica), metrics);
        let subscriber = Subscriber::new(upstream, ReplicaWriter::new(Arc::clone(&replica)), validator_id);
        let gate = Gate::new(validator.clone(), token_sources);
        Self { replica, validator, gate, registry, subscriber }
    }

    /// Waits until the validator holds a lease, and so may answer. Cancel safe.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + 'static {
        let replica = Arc::clone(&self.replica);
        async move {
            while !replica.holds_lease() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Serves until shutdown.
    ///
    /// # Errors
    /// A listener failed.
    pub async fn run(self, listeners: Listeners, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { replica, validator, gate, registry, subscriber } = self;
        let readiness = readiness(&replica, &shutdown);
        let ops = Ops { readiness: readiness.clone(), registry };
        let serve = async {
            let served = tokio::try_join!(
                serve_grpc(validator, gate.clone(), readiness, listeners.grpc.incoming(), shutdown.clone()),
                keyward_runtime::http::serve(listeners.hook, front::router(gate), &shutdown),
                ops::serve(listeners.ops, ops, shutdown.clone()),
            );
            served.map(|_| ())
        };
        Box::pin(run_with_subscriber(subscriber, serve)).await
    }

    /// Serves only gRPC, over the given connections, until shutdown. For simulations.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn run_grpc<I>(
        self,
        incoming: impl Stream<Item = io::Result<I>>,
        shutdown: Shutdown,
    ) -> anyhow::Result<()>
    where
        I: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let Self { replica, validator, gate, subscriber, .. } = self;
        let readiness = readiness(&replica, &shutdown);
        Box::pin(run_with_subscriber(subscriber, serve_grpc(validator, gate, readiness, incoming, shutdown))).await
    }
}

/// Runs the subscriber, which feeds the replica, for as long as `serve` runs.
async fn run_with_subscriber(
    subscriber: Subscriber,
    serve: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    // Stops the subscriber too if this future is dropped.
    let _stop_on_drop = stop.clone().drop_guard();
    // A separate task: applying a snapshot must not block the listeners.
    let subscriber = tokio::spawn(subscriber.run(stop.clone()));
    let served = serve.await;
    // After the drain, because the requests in progress needed the lease.
    stop.cancel();
    subscriber.await.context("the subscriber failed")?;
    served
}

async fn serve_grpc<I>(
    validator: Validator,
    gate: Gate,
    readiness: Readiness,
    incoming: impl Stream<Item = io::Result<I>>,
    shutdown: Shutdown,
) -> anyhow::Result<()>
where
    I: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (health_service, follow_readiness) = readiness.health(HEALTH_OF).await;
    let limit = VALIDATOR_MESSAGE_LIMIT;
    let validate = ValidateApi { validator, shutdown: shutdown.clone() };
    let validate = ValidateServiceServer::new(validate).max_decoding_message_size(limit);
    let check = AuthorizationServer::new(ExtAuthzApi(gate)).max_decoding_message_size(limit);
    let routes = add_reflection(Routes::new(validate).add_service(check).add_service(health_service), REFLECTED)?;
    let leave = shutdown.clone();
    let server = server(MAX_STREAMS)
        .layer(MapResponseLayer::new(explain_unreadable))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, async move { leave.wait().await });
    tokio::select! {
        served = bounded(&shutdown, server) => served.context("the validator's listener"),
        never = follow_readiness => match never {},
    }
}

/// The validator is ready while it holds a lease.
fn readiness(replica: &Arc<Replica<AnyClock>>, shutdown: &Shutdown) -> Readiness {
    const NO_LEASE: &str = "no lease: no admin was reachable for its duration, or the replica is not complete yet";
    let replica = Arc::clone(replica);
    Readiness::new(shutdown, move || (!replica.holds_lease()).then_some(NO_LEASE))
}
