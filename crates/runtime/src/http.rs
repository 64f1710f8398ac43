//! The HTTP/1.1 server as every role runs it: hyper with limits said aloud.

use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tower::ServiceExt as _;

use crate::listener::Listener;
use crate::shutdown::{Shutdown, bounded};

/// Most headers of a request. hyper's own limit of 100 is less than what gateways let through, and they would report a
/// client's request with more as an outage of ours.
const MOST_HEADERS: usize = 512;

/// Most bytes of a request's head: more than any gateway here lets in (Envoy: 60 KiB unless told otherwise).
const LONGEST_HEAD: usize = 128 << 10;

/// How long a request's head may take, counted from the end of the one before: also how long a connection may be idle. Longer
/// than gateways keep idle connections (nginx: 60 s, Caddy: 2 min, Envoy: as deploy/ tells it), so that it is they who close
/// them, and no request is sent into a closing one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(180);

/// Serves until shutdown: then finishes what has begun, within the drain.
///
/// # Errors
/// The listener broke. A connection that cannot be accepted is logged, and no reason to end.
pub async fn serve(listener: Listener, router: Router, shutdown: &Shutdown) -> anyhow::Result<()> {
    let connections = GracefulShutdown::new();
    accept(listener, &router, shutdown, &connections).await?;
    let finished = async {
        connections.shutdown().await;
        anyhow::Ok(())
    };
    bounded(shutdown, finished).await
}

/// Accepts until shutdown. The listener goes with it: who connects during the drain is refused at once, and asks another.
async fn accept(
    listener: Listener,
    router: &Router,
    shutdown: &Shutdown,
    connections: &GracefulShutdown,
) -> anyhow::Result<()> {
    let mut incoming = std::pin::pin!(listener.incoming());
    loop {
        let accepted = tokio::select! {
            accepted = tokio_stream::StreamExt::next(&mut incoming) => accepted,
            () = shutdown.wait() => return Ok(()),
        };
        let stream = accepted.context("the listener ended")??;
        let service = router.clone().map_request(|request: Request<Incoming>| request.map(axum::body::Body::new));
        let connection = builder().serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            // Whoever breaks a rule of HTTP, or is cut, is nobody's concern but its own.
            let _ = connection.await;
        });
    }
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MOST_HEADERS)
        .max_buf_size(LONGEST_HEAD);
    builder
}
