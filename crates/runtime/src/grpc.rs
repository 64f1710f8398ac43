//! The gRPC server as every role runs it: tonic with the limits that its defaults switch off.

use std::time::Duration;

use tonic::service::Routes;
use tonic::transport::Server;
use tower::layer::util::Identity;

/// Largest request that the admin reads: 1 MiB.
pub const ADMIN_MESSAGE_LIMIT: usize = 1 << 20;

/// Largest request that a validator reads: 128 KiB. The longest honest one is Envoy's Check, which always carries the
/// path with its query: a limit below what Envoy lets in (60 KiB of headers unless told otherwise) would let any client
/// provoke errors that look like an outage.
pub const VALIDATOR_MESSAGE_LIMIT: usize = 128 << 10;

/// A server builder with explicit limits. tonic 0.14 passes "none" for several of hyper's guards unless told otherwise.
pub fn server(max_concurrent_streams: u32) -> Server<Identity> {
    Server::builder()
        .max_concurrent_streams(max_concurrent_streams)
        // Resets that peers cause by malformed requests: the guard of RUSTSEC-2024-0003.
        .http2_max_local_error_reset_streams(Some(256))
        // Rapid reset, CVE-2023-44487.
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_header_list_size(16 << 10)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .tcp_nodelay(true)
}

/// Adds reflection for `services` in both versions: grpcurl of 2022 knows v1alpha only. google.rpc's error details come
/// with it, or clients could not print them.
///
/// # Errors
/// The descriptor sets that the binary was built with are broken.
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
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}
