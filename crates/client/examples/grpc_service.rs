//! A gRPC service that validates tokens over one stream to a validator. It is the standard health service, which needs no
//! proto of its own.
//!
//! ```text
//! cargo run                                              # in one terminal: Keyward itself
//! cargo run -p keyward-client --example grpc_service     # in another
//! grpcurl -plaintext -H "x-api-key: $TOKEN" 127.0.0.1:8091 grpc.health.v1.Health/Check
//! ```

use keyward_client::{Client, KeywardLayer, Validators};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let validator = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8520".to_owned());
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:8091".to_owned());

    let keyward = Client::by_stream(&Validators::at([validator]))?;
    let (_health, service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1alpha()?;
    let server = Server::builder()
        // In front of all services. Handlers get the key with `request.extensions().get::<ApiKey>()`.
        .layer(KeywardLayer::for_project(keyward, "6666")?)
        .add_service(service)
        .add_service(reflection);

    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(server.serve_with_incoming(TcpListenerStream::new(listener)).await?)
}
