//! An HTTP service with a replica of all keys in its own memory. It needs no validator and makes no call per request.
//!
//! ```text
//! cargo run                                              # in one terminal: Keyward itself
//! target/debug/keyward members create my_service --role validator > my_service.credential
//! cargo run -p keyward-client --example embedded_replica -- my_service.credential
//! curl -i -H "x-api-key: $TOKEN" http://127.0.0.1:8092/
//! ```

use std::time::Duration;

use anyhow::Context;
use axum::routing::get;
use axum::{Extension, Router};
use keyward_client::{Admins, ApiKey, Client, KeywardLayer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file =
        arguments.next().context("first argument: the file with the credential of a member with role validator")?;
    let admin = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8510".to_owned());
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:8092".to_owned());

    // The file is read before each session, so the credential can be rotated without a restart.
    let admins = Admins::reading([admin], move || std::fs::read_to_string(&file));
    let keyward = Client::embedded(&admins)?;
    // Until the replica is complete, requests would get 503.
    let ready = tokio::time::timeout(Duration::from_secs(30), keyward.ready()).await;
    ready.context("no lease in 30 s: check the address of the admin and the role of the credential")?;
    let app = Router::new()
        .route("/", get(|Extension(key): Extension<ApiKey>| async move { format!("hello, {}\n", key.name()) }))
        // Accepts keys of ANY project; the handler distinguishes them by name.
        .layer(KeywardLayer::for_any_project(keyward.clone()));

    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(leave()).await?;
    // After the last answer. From now on, deactivations do not wait for this replica.
    keyward.leave().await;
    Ok(())
}

/// Waits for SIGTERM or Ctrl-C.
async fn leave() {
    let terminate = signal(SignalKind::terminate());
    let terminated = async {
        match terminate {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
