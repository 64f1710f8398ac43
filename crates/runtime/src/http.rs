//! The HTTP/1.1 server of every role: hyper, with explicit limits.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tower::ServiceExt as _;

use crate::connections::{ConnectionState, RequestInProgress};
use crate::listener::Listener;
use crate::shutdown::{Shutdown, bounded};

/// Largest number of headers of a request. hyper's default, 100, is lower than what gateways forward: they would report a
/// client's request with more headers as an outage of the validator.
const MOST_HEADERS: usize = 512;

/// Largest head of a request, in bytes. More than any supported gateway accepts (Envoy: 60 KiB by default).
const LONGEST_HEAD: usize = 128 << 10;

/// How long the head of a request may take, counted from the end of the previous request: also the idle timeout of a
/// connection. The head of the first request has the shorter limit of the listener. Longer than gateways keep idle connections (nginx: 60 s, Caddy: 2 min, Envoy: set in `deploy/`). The gateway
/// therefore closes first, and never sends a request into a connection that is being closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(180);

/// Serves until shutdown, then finishes the requests in progress, within the drain.
///
/// # Errors
/// The listener failed. A failure to accept one connection is logged and does not end the server.
pub async fn serve(listener: Listener, router: Router, shutdown: &Shutdown) -> anyhow::Result<()> {
    let connections = GracefulShutdown::new();
    accept(listener, &router, shutdown, &connections).await?;
    let finished = async {
        connections.shutdown().await;
        anyhow::Ok(())
    };
    bounded(shutdown, finished).await
}

/// Accepts connections until shutdown. Drops the listener on return, so that clients are refused at once during the drain and
/// turn to another server.
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
        let (router, state) = (router.clone(), stream.state());
        let service = service_fn(move |request| answer(router.clone(), request, Arc::clone(&state)));
        let connection = builder().serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            // Errors of one connection, such as malformed HTTP or a reset, concern no other and are ignored.
            let _ = connection.await;
        });
    }
}

/// Answers one request, which counts as in progress until its response was written or dropped.
async fn answer(
    router: Router,
    request: Request<Incoming>,
    state: Arc<ConnectionState>,
) -> Result<http::Response<Held>, Infallible> {
    let call = state.begin();
    let response = router.oneshot(request.map(Body::new)).await?;
    Ok(response.map(|body| Held { body, request: call }))
}

/// A response body that keeps its request in progress until it is dropped.
struct Held {
    body: Body,
    request: RequestInProgress,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.request.moved();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
