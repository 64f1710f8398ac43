//! The gRPC server of every role: tonic, with the limits that its defaults disable.

mod call;
mod call_layer;
mod method;
mod request_body;
mod response_body;

use std::time::Duration;

use tonic::service::Routes;
use tonic::transport::Server;
use tower::layer::util::{Identity, Stack};

pub use call_layer::{CallLayer, CallService};

/// Largest request that the admin accepts, in bytes: 1 MiB.
pub const ADMIN_MESSAGE_LIMIT: usize = 1 << 20;

/// Largest request that a validator accepts, in bytes: 128 KiB. The largest legitimate one is Envoy's Check, which carries
/// the path with its query. A limit below what Envoy accepts (60 KiB of headers by default) would let any client provoke
/// errors that look like an outage.
pub const VALIDATOR_MESSAGE_LIMIT: usize = 128 << 10;

/// Largest request to the health service, in bytes. It holds the name of a service.
pub(crate) const HEALTH_MESSAGE_LIMIT: usize = 4 << 10;

/// Largest request to the reflection service, in bytes. It holds the name of a file or of a symbol.
const REFLECTION_MESSAGE_LIMIT: usize = 4 << 10;

/// How many bytes a client may send in one stream before they are read: the largest message of a validator.
const STREAM_WINDOW: u32 = 128 << 10;

/// How many bytes a client may send in all streams of a connection before they are read.
const CONNECTION_WINDOW: u32 = 256 << 10;

/// Returns a server builder with explicit limits. By default tonic 0.14 disables several of hyper's protections. Calls count
/// as requests of their connection, and their messages hold memory of its budget ([`CallLayer`]).
pub fn server(max_concurrent_streams: u32) -> Server<Stack<CallLayer, Identity>> {
    Server::builder()
        .max_concurrent_streams(max_concurrent_streams)
        // Limits resets that malformed requests cause: RUSTSEC-2024-0003.
        .http2_max_local_error_reset_streams(Some(256))
        // Limits rapid resets: CVE-2023-44487.
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_header_list_size(16 << 10)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .tcp_nodelay(true)
        .layer(CallLayer)
}

/// Adds reflection for `services`, in the versions v1 and v1alpha: grpcurl of 2022 supports only v1alpha. Includes the error
/// details of google.rpc, without which clients cannot print them.
///
/// # Errors
/// The descriptor sets in the binary cannot be decoded.
pub fn add_reflection(routes: Routes, services: &[&str]) -> anyhow::Result<Routes> {
    let builder = || {
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(keyward_proto::DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        for service in services {
            builder = builder.with_service_name(*service);
        }
        builder
    };
    let reflection = builder().build_v1()?.max_decoding_message_size(REFLECTION_MESSAGE_LIMIT);
    let alpha = builder().build_v1alpha()?.max_decoding_message_size(REFLECTION_MESSAGE_LIMIT);
    Ok(routes.add_service(reflection).add_service(alpha))
}
