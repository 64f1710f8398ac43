use keyward_runtime::descriptors::{self, ListenerCounts};
use keyward_runtime::listener::bind;
use keyward_runtime::shutdown::{self, signalled};

use crate::options::Config;
use crate::server::{Listeners, Role};

/// Runs a validator on its own until SIGTERM or SIGINT.
///
/// # Errors
/// A listener cannot be bound, or failed.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let (trigger, leave) = shutdown::channel();
    let limits = descriptors::divide(config.connections, ListenerCounts { grpc: 1, hooks: 1, ops: 1 });
    let (grpc, grpc_at) = bind("the validator", "validator", &config.listen, limits.service).await?;
    let (hook, hook_at) = bind("the HTTP hook", "hook", &config.hook_listen, limits.service).await?;
    let (ops, ops_at) = bind("the ops listener", "validator_ops", &config.ops_listen, limits.ops).await?;
    let id = uuid::Uuid::new_v4().to_string();
    tracing::info!(grpc = %grpc_at, hook = %hook_at, ops = %ops_at, id, "the validator listens");
    let role = Role::new(config.upstream, config.token_sources, id);
    let ready = role.ready();
    tokio::spawn(async move {
        ready.await;
        tracing::info!("the validator is ready");
    });
    let serve = role.run(Listeners { grpc, hook, ops }, leave);
    let stop = async {
        signalled().await?;
        tracing::info!(drain_delay_ms = config.drain_delay.as_millis(), "shutting down");
        trigger.announce();
        tokio::select! {
            () = tokio::time::sleep(config.drain_delay) => {}
            // A second signal skips the delay.
            again = signalled() => again?,
        }
        trigger.leave();
        anyhow::Ok(())
    };
    tokio::try_join!(serve, stop).map(|_| ())
}
