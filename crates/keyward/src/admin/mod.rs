//! `keyward admin`: the key-admin service alone, one of any number over one PostgreSQL.

mod options;

pub(crate) use options::Options;

use std::sync::Arc;
use std::time::Instant;

use keyward_admin::{App, AppOptions, Metrics, follow_database_url, open_deployment};
use keyward_runtime::descriptors::{self, ListenerCounts};
use keyward_runtime::listener::bind;
use keyward_runtime::shutdown::{self, signalled};
use keyward_token::TokenFormat;

use options::Config;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The database or the keyring cannot be used, an address is in use, or a listener failed.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let started = Instant::now();
    let (store, keyring) = open_deployment(config.database_url.expose(), &config.keyring).await?;
    let (metrics, registry) = Metrics::new();
    let limits = descriptors::divide(config.connections, ListenerCounts { grpc: 1, hooks: 0, ops: 1 });
    let (grpc, grpc_at) = bind("the admin API", "admin", &config.listen, limits.service).await?;
    let (ops, ops_at) = bind("the admin's ops listener", "admin_ops", &config.ops_listen, limits.ops).await?;
    tracing::info!(admin = %grpc_at, admin_ops = %ops_at, "listening");
    // After the listeners: App::load registers this admin in the database, and other admins wait for registered ones.
    let peers = config.peers.map(|peers| peers.listening_on(&grpc_at));
    let options = AppOptions { public_url: config.public_url, peers, ..Default::default() };
    let app = App::load(store.clone(), keyring, TokenFormat::default(), metrics, options).await?;

    let (trigger, leave) = shutdown::channel();
    let stop = async {
        signalled().await?;
        tracing::info!("shutting down");
        trigger.leave();
        anyhow::Ok(())
    };
    let greet = async {
        tokio::select! {
            () = app.ready() => tracing::info!(elapsed_ms = started.elapsed().as_millis(), "ready"),
            () = leave.wait() => {}
        }
        Ok(())
    };
    // A separate task that outlives the listeners: changes that are committed during the drain must still be published.
    let publisher = tokio::spawn({
        let app = Arc::clone(&app);
        async move { app.publish().await }
    });
    let follower = tokio::spawn({
        let (store, url, insecure) = (store.clone(), config.database_url, config.insecure_plaintext);
        async move {
            if let Some(file) = config.database_url_file {
                follow_database_url(&store, &file, url, insecure).await;
            }
        }
    });
    let served = tokio::try_join!(
        keyward_admin::listen(Arc::clone(&app), grpc, leave.clone()),
        keyward_runtime::ops::serve(ops, keyward_admin::ops(&app, registry, &leave), leave.clone()),
        greet,
        stop,
    );
    follower.abort();
    publisher.abort();
    // Wait for its end: a publisher that still runs would begin a new admin life.
    let _ = publisher.await;
    app.leave().await;
    store.close().await;
    served.map(|_| ())
}
