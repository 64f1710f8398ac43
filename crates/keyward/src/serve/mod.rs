//! `keyward serve`: admin and validator in one process. They use the same Sync protocol as on two machines, over an in-process
//! channel.

mod greeting;
mod options;

pub(crate) use options::Options;

use std::sync::Arc;
use std::time::Instant;

use keyward_admin::{App, AppOptions, FirstStart, Metrics, prepare_data_dir};
use keyward_runtime::config::Listen;
use keyward_runtime::descriptors::{self, ListenerCounts};
use keyward_runtime::listener::{Listener, bind};
use keyward_runtime::shutdown::{self, signalled};
use keyward_token::TokenFormat;
use keyward_validator::{Listeners, Role, Upstream};
use tokio::sync::mpsc;

use options::Config;

/// All listeners, bound.
struct Bound {
    admin: Listener,
    admin_ops: Listener,
    validator: Listeners,
    /// Real addresses, for the greeting.
    admin_at: Listen,
    hook_at: Listen,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The data directory cannot be used, an address is in use, or a listener failed.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let started = Instant::now();
    let format = TokenFormat::default();
    let FirstStart { store, keyring, new_root, credential_file, lock: _held } =
        prepare_data_dir(&config.data_dir, &format).await?;
    let (metrics, registry) = Metrics::new();
    let bound = bind_all(&config).await?;
    let public_url = config.public_url.or_else(|| greeting::hook_url(&bound.hook_at)).unwrap_or_default();
    let options = AppOptions { lease: config.lease, public_url, ..Default::default() };
    let app = App::load(store.clone(), keyring, format, metrics, options).await?;

    let (trigger, leave) = shutdown::channel();
    let (to_admin, from_validator) = mpsc::channel(1);
    let role = Role::new(Upstream::InProcess(to_admin), config.token_sources, "in-process".to_owned());
    let ready = role.ready();
    let greeting = greeting::Greeting {
        new_root,
        credential_file,
        data_dir: config.data_dir,
        admin_at: bound.admin_at,
        hook_at: bound.hook_at,
    };
    let greet = async {
        tokio::select! {
            () = ready => {
                tracing::info!(elapsed_ms = started.elapsed().as_millis(), "ready");
                greeting.print();
            }
            () = leave.wait() => {}
        }
        Ok(())
    };
    let stop = async {
        signalled().await?;
        tracing::info!("shutting down");
        trigger.leave();
        anyhow::Ok(())
    };
    // A separate task that outlives the listeners: changes that are committed during the drain must still be published.
    let publisher = tokio::spawn({
        let app = Arc::clone(&app);
        async move { app.publish().await }
    });
    let served = tokio::try_join!(
        keyward_admin::listen(Arc::clone(&app), bound.admin, leave.clone()),
        keyward_admin::listen_in_process(Arc::clone(&app), from_validator, leave.clone()),
        keyward_runtime::ops::serve(bound.admin_ops, keyward_admin::ops(&app, registry, &leave), leave.clone()),
        role.run(bound.validator, leave.clone()),
        greet,
        stop,
    );
    publisher.abort();
    store.close().await;
    served.map(|_| ())
}

async fn bind_all(config: &Config) -> anyhow::Result<Bound> {
    let limits = descriptors::divide(config.connections, ListenerCounts { grpc: 2, hooks: 1, ops: 2 });
    let (admin, admin_at) = bind("the admin API", "admin", &config.admin_listen, limits.service).await?;
    let (admin_ops, admin_ops_at) =
        bind("the admin's ops listener", "admin_ops", &config.admin_ops_listen, limits.ops).await?;
    let (grpc, grpc_at) = bind("the validator", "validator", &config.validator_listen, limits.service).await?;
    let (hook, hook_at) = bind("the HTTP hook", "hook", &config.hook_listen, limits.service).await?;
    let (ops, ops_at) =
        bind("the validator's ops listener", "validator_ops", &config.validator_ops_listen, limits.ops).await?;
    tracing::info!(
        admin = %admin_at,
        validator = %grpc_at,
        hook = %hook_at,
        admin_ops = %admin_ops_at,
        validator_ops = %ops_at,
        "listening"
    );
    Ok(Bound { admin, admin_ops, validator: Listeners { grpc, hook, ops }, admin_at, hook_at })
}
