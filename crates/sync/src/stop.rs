use tokio::sync::watch;

/// Says when to stop. Cheap to clone; every clone hears it.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// Tells everybody to stop: when asked to, and when dropped.
#[derive(Debug)]
pub struct StopTrigger(watch::Sender<bool>);

impl StopTrigger {
    /// A new pair.
    pub fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Stop(receiver))
    }

    /// Tells them.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Waits until it is time to stop. Cancel safe.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        // An error means that the trigger is gone, which says the same.
        let _ = receiver.wait_for(|stop| *stop).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_trigger_stops_when_told_and_when_dropped() {
        let (trigger, stop) = StopTrigger::new();
        trigger.stop();
        stop.wait().await;
        let (trigger, stop) = StopTrigger::new();
        let waiting = tokio::spawn(async move { stop.wait().await });
        drop(trigger);
        assert!(waiting.await.is_ok());
    }
}
