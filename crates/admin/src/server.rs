//! Listeners of the admin: which services run on them, and for how long.

use std::io;
use std::sync::Arc;

use anyhow::Context;
use keyward_proto::admin::audit_service_server::AuditServiceServer;
use keyward_proto::admin::key_service_server::KeyServiceServer;
use keyward_proto::admin::member_service_server::MemberServiceServer;
use keyward_proto::admin::project_service_server::ProjectServiceServer;
use keyward_proto::admin::sdk_service_server::SdkServiceServer;
use keyward_proto::replica::peer_service_server::PeerServiceServer;
use keyward_proto::replica::replica_service_server::ReplicaServiceServer;
use keyward_runtime::grpc::{ADMIN_MESSAGE_LIMIT, add_reflection, server};
use keyward_runtime::listener::Listener;
use keyward_runtime::ops::Ops;
use keyward_runtime::readiness::Readiness;
use keyward_runtime::shutdown::{Shutdown, bounded};
use keyward_runtime::status::explain_unreadable;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tower::util::MapResponseLayer;

use crate::app::App;
use crate::auth::AuthLayer;
use crate::grpc::{AuditApi, KeyApi, MemberApi, PeerApi, ProjectApi, SdkApi};
use crate::sync::ReplicaApi;

/// The services that gRPC reflection lists.
const REFLECTED: &[&str] = &[
    "keyward.admin.v1.ProjectService",
    "keyward.admin.v1.KeyService",
    "keyward.admin.v1.MemberService",
    "keyward.admin.v1.AuditService",
    "keyward.admin.v1.SdkService",
    "keyward.replica.v1.PeerService",
    "keyward.replica.v1.ReplicaService",
    "grpc.health.v1.Health",
];

/// The services whose health is the readiness of the admin.
const HEALTH_OF: &[&str] = &[
    "keyward.admin.v1.ProjectService",
    "keyward.admin.v1.KeyService",
    "keyward.admin.v1.MemberService",
    "keyward.admin.v1.AuditService",
    "keyward.admin.v1.SdkService",
    "keyward.replica.v1.PeerService",
    "keyward.replica.v1.ReplicaService",
];

/// The most concurrent streams of a connection. Clients of operators need few; a validator needs one.
const MAX_STREAMS: u32 = 100;

/// Serves the admin API, `Sync` and the calls between admins until shutdown, to members only.
///
/// # Errors
/// The listener broke.
pub async fn listen(app: Arc<App>, listener: Listener, shutdown: Shutdown) -> anyhow::Result<()> {
    listen_to(app, listener.incoming(), shutdown).await
}

/// Serves as [`listen`] does, on any stream of connections.
///
/// # Errors
/// The listener broke.
pub async fn listen_to<I>(
    app: Arc<App>,
    incoming: impl Stream<Item = io::Result<I>>,
    shutdown: Shutdown,
) -> anyhow::Result<()>
where
    I: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (health_service, follow_readiness) = readiness(&app, &shutdown).health(HEALTH_OF).await;
    let replica = replica_service(&app, &shutdown, true);
    let routes = Routes::new(health_service)
        .add_service(
            ProjectServiceServer::new(ProjectApi(Arc::clone(&app))).max_decoding_message_size(ADMIN_MESSAGE_LIMIT),
        )
        .add_service(KeyServiceServer::new(KeyApi(Arc::clone(&app))).max_decoding_message_size(ADMIN_MESSAGE_LIMIT))
        .add_service(
            MemberServiceServer::new(MemberApi(Arc::clone(&app))).max_decoding_message_size(ADMIN_MESSAGE_LIMIT),
        )
        .add_service(AuditServiceServer::new(AuditApi(Arc::clone(&app))).max_decoding_message_size(ADMIN_MESSAGE_LIMIT))
        .add_service(SdkServiceServer::new(SdkApi(Arc::clone(&app))).max_decoding_message_size(ADMIN_MESSAGE_LIMIT))
        .add_service(PeerServiceServer::new(PeerApi(Arc::clone(&app))).max_decoding_message_size(ADMIN_MESSAGE_LIMIT))
        .add_service(replica);
    let routes = add_reflection(routes, REFLECTED)?;

    let leave = shutdown.clone();
    let server = server(MAX_STREAMS)
        .layer(AuthLayer(app))
        // Inside authentication, which counts calls by their code.
        .layer(MapResponseLayer::new(explain_unreadable))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, async move { leave.wait().await });
    tokio::select! {
        served = bounded(&shutdown, server) => served.context("the admin listener"),
        never = follow_readiness => match never {},
    }
}

/// Serves `Sync` alone, to the validator in the same process. It needs no credential, because only this process can send
/// connections over the channel.
///
/// # Errors
/// The server broke.
pub async fn listen_in_process(
    app: Arc<App>,
    connections: mpsc::Receiver<DuplexStream>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let leave = shutdown.clone();
    let incoming = ReceiverStream::new(connections).map(Ok::<_, std::io::Error>);
    let server = server(MAX_STREAMS)
        .layer(MapResponseLayer::new(explain_unreadable))
        .add_service(replica_service(&app, &shutdown, false))
        .serve_with_incoming_shutdown(incoming, async move { leave.wait().await });
    bounded(&shutdown, server).await.context("the in-process listener")
}

/// Returns the state of the admin's ops listener.
pub fn ops(app: &Arc<App>, registry: Arc<Registry>, shutdown: &Shutdown) -> Ops {
    Ops { readiness: readiness(app, shutdown), registry }
}

/// The admin is ready while it can grant leases; its image is loaded before it listens.
fn readiness(app: &Arc<App>, shutdown: &Shutdown) -> Readiness {
    let app = Arc::clone(app);
    Readiness::new(shutdown, move || app.publisher.why_no_grants())
}

fn replica_service(app: &Arc<App>, shutdown: &Shutdown, external: bool) -> ReplicaServiceServer<ReplicaApi> {
    let api = ReplicaApi { app: Arc::clone(app), shutdown: shutdown.clone(), external };
    ReplicaServiceServer::new(api).max_decoding_message_size(ADMIN_MESSAGE_LIMIT)
}
