//! The ops listener of every role: `/livez`, `/readyz`, `/metrics`, for probes and scrapers.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;

use crate::http;
use crate::listener::Listener;
use crate::readiness::Readiness;
use crate::shutdown::Shutdown;

/// The state that the ops listener reports.
#[derive(Clone, Debug)]
pub struct Ops {
    /// The readiness of the role, which its gRPC health service reports too.
    pub readiness: Readiness,
    /// The metrics of the role.
    pub registry: Arc<Registry>,
}

/// Serves until shutdown.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: Listener, ops: Ops, shutdown: Shutdown) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(ops);
    http::serve(listener, router, &shutdown).await
}

/// Answers 200 while the role is ready, else 503 with the reason.
async fn readyz(State(ops): State<Ops>) -> impl IntoResponse {
    match ops.readiness.why_not() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(ops): State<Ops>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &ops.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
