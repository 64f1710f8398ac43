//! Orderly shutdown: announced to health checks first, then a drain of bounded length.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long a server may take to finish the requests that it has begun. tonic's own graceful shutdown has no bound: one
/// client that holds an idle connection open would delay the exit for ever (hyperium/hyper#4170).
pub const DRAIN: Duration = Duration::from_secs(5);

/// Receives the signal to shut down. Cheap to clone; all clones share one signal.
#[derive(Clone, Debug)]
pub struct Shutdown {
    announced: CancellationToken,
    leaving: CancellationToken,
}

/// Sends the signal to shut down. Dropping it sends the signal too.
#[derive(Debug)]
pub struct ShutdownTrigger(Shutdown);

/// Returns a new pair.
pub fn channel() -> (ShutdownTrigger, Shutdown) {
    let leaving = CancellationToken::new();
    // A child: leaving implies announced, and not the other way round.
    let shutdown = Shutdown { announced: leaving.child_token(), leaving };
    (ShutdownTrigger(shutdown.clone()), shutdown)
}

impl ShutdownTrigger {
    /// Announces the shutdown. Servers go on answering, and health checks fail from now on, so that clients and load
    /// balancers turn to other servers before connections close.
    pub fn announce(&self) {
        self.0.announced.cancel();
    }

    /// Begins the shutdown: servers stop accepting and drain.
    pub fn leave(&self) {
        self.0.leaving.cancel();
    }
}

impl Drop for ShutdownTrigger {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Shutdown {
    /// Waits until the shutdown begins. An announcement alone does not end the wait. Cancel safe.
    pub async fn wait(&self) {
        self.leaving.cancelled().await;
    }

    /// Returns `true` once the shutdown was announced or has begun.
    pub fn is_leaving(&self) -> bool {
        self.announced.is_cancelled()
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// The process cannot install a signal handler.
pub async fn signalled() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Runs a server until it ends, or until [`DRAIN`] after the shutdown began.
///
/// # Errors
/// The server's own.
pub async fn bounded<E>(shutdown: &Shutdown, server: impl Future<Output = Result<(), E>>) -> Result<(), E> {
    let overdue = async {
        shutdown.wait().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = server => result,
        () = overdue => {
            tracing::warn!("clients still hold connections after the drain; closing them");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_announcement_fails_health_checks_and_does_not_end_the_wait() {
        let (trigger, shutdown) = channel();
        assert!(!shutdown.is_leaving());
        trigger.announce();
        assert!(shutdown.is_leaving());
        let waited = tokio::time::timeout(Duration::from_millis(1), shutdown.wait()).await;
        assert!(waited.is_err());
        trigger.leave();
        shutdown.wait().await;
    }

    #[tokio::test]
    async fn leaving_implies_the_announcement_and_a_dropped_trigger_leaves() {
        let (trigger, shutdown) = channel();
        drop(trigger);
        shutdown.wait().await;
        assert!(shutdown.is_leaving());
    }
}
