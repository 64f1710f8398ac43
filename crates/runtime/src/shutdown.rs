//! Orderly leaving: one signal, a bounded drain.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long a server may take to finish what it has begun. tonic's own graceful shutdown has no bound: one client that
/// holds a silent connection would keep it waiting for ever (hyperium/hyper#4170).
pub const DRAIN: Duration = Duration::from_secs(5);

/// Says when to leave. Cheap to clone; every clone hears it.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Phase>);

/// Tells everybody to leave, once.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<Phase>);

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Phase {
    Serving,
    /// Still serving whoever asks, but telling health checks to send nobody any more.
    Announced,
    Leaving,
}

/// A new pair.
pub fn channel() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(Phase::Serving);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

impl ShutdownTrigger {
    /// Tells them that the time will come: who checks health should hear it before connections close.
    pub fn announce(&self) {
        self.0.send_replace(Phase::Announced);
    }

    /// Tells them to leave.
    pub fn leave(&self) {
        self.0.send_replace(Phase::Leaving);
    }
}

impl Shutdown {
    /// Waits until it is time to leave. Cancel safe.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        // An error means that the trigger is gone, and with it whoever could tell.
        let _ = receiver.wait_for(|phase| *phase == Phase::Leaving).await;
    }

    /// Whether it is time to leave, or was announced.
    pub fn is_leaving(&self) -> bool {
        *self.0.borrow() > Phase::Serving
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// The process cannot install a handler.
pub async fn signalled() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Runs a server until it ends by itself, or until [`DRAIN`] after the signal.
///
/// # Errors
/// The server's own.
pub async fn bounded<E>(shutdown: &Shutdown, server: impl Future<Output = Result<(), E>>) -> Result<(), E> {
    let too_long = async {
        shutdown.wait().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = server => result,
        () = too_long => {
            tracing::warn!("clients still hold connections after the drain; leaving them");
            Ok(())
        }
    }
}
