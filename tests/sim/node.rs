//! The machines that run Keyward's servers.

use std::sync::Arc;
use std::time::Duration;

use keyward_admin::{App, AppOptions, Metrics, PeerOptions, listen_to};
use keyward_replica::AnyClock;
use keyward_runtime::shutdown;
use keyward_sync::Authorization;
use keyward_token::{Keyring, TokenFormat};
use keyward_validator::{Role, TokenSources, Upstream};

use crate::net::{PORT, connector, incoming};
use crate::world::{ADMINS, World};

/// The pause before a failed process is started again.
const RESTART: Duration = Duration::from_millis(100);

/// Runs an admin until it is shut down. A process that fails is started again, as a supervisor would.
pub(crate) async fn admin(world: Arc<World>, index: usize) -> turmoil::Result {
    while let Err(error) = admin_once(&world, index).await {
        world.note(&format!("admin-{index} failed: {error:#}"));
        tokio::time::sleep(RESTART).await;
    }
    Ok(())
}

async fn admin_once(world: &Arc<World>, index: usize) -> anyhow::Result<()> {
    let store = world.store.over_network(Arc::new(world.database_links[index].clone()));
    let keyring = Keyring::parse(&world.keyring)?;
    let clock = AnyClock::Simulated(Arc::clone(&world.admin_clocks[index]) as _);
    let (metrics, _) = Metrics::new();
    let peers =
        PeerOptions::new(&format!("http://admin-{index}:{PORT}"), &world.peer, true).map_err(anyhow::Error::msg)?;
    let options = AppOptions { clock, peers: Some(peers.by(connector())), ..AppOptions::default() };
    let app = App::load(store, keyring, TokenFormat::default(), metrics, options).await?;
    let (trigger, leave) = shutdown::channel();
    world.register_shutdown(format!("admin-{index}"), trigger);
    let publisher = tokio::spawn({
        let app = Arc::clone(&app);
        async move { app.publish().await }
    });
    let served = listen_to(Arc::clone(&app), incoming().await?, leave).await;
    publisher.abort();
    let _ = publisher.await;
    app.leave().await;
    served
}

/// Runs a validator until it is shut down.
pub(crate) async fn validator(world: Arc<World>, index: usize) -> turmoil::Result {
    let credential = world.credential().await;
    let admins = (0..ADMINS).map(|admin| format!("http://admin-{admin}:{PORT}").parse());
    let upstream = Upstream::Remote {
        admins: admins.collect::<Result<_, _>>()?,
        authorization: Authorization::fixed(&credential)?,
        connector: connector(),
    };
    let clock = AnyClock::Simulated(Arc::clone(&world.validator_clocks[index]) as _);
    let (trigger, leave) = shutdown::channel();
    world.register_shutdown(format!("validator-{index}"), trigger);
    let life = world.life(index);
    let role = Role::by_clock(clock, upstream, TokenSources::default(), format!("validator-{index}-{life}"));
    if let Err(error) = role.run_grpc(incoming().await?, leave).await {
        world.note(&format!("validator-{index} failed: {error:#}"));
    }
    Ok(())
}
