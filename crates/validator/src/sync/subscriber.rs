use std::time::Duration;

use anyhow::{Context, bail};
use keyward_proto::replica::replica_service_client::ReplicaServiceClient;
use keyward_proto::replica::sync_request::Message as Say;
use keyward_proto::replica::sync_response::Message as Said;
use keyward_proto::replica::{Ack, Goodbye, Hello, Renew, SyncRequest, SyncResponse};
use keyward_replica::{BootClock, Follower, Reply};
use keyward_runtime::shutdown::Shutdown;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use crate::sync::Upstream;
use crate::sync::backoff::Backoff;
use crate::sync::decode;

/// The version of the protocol that this validator speaks.
const PROTOCOL: u32 = 1;

/// How long an admin may take to open a session, or to take a message.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same before the replica is complete: a part of a snapshot may travel long, and HTTP/2's own keepalive tells whether
/// the admin lives.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(60);

/// A session that lasted so long went well: the next try need not wait for long.
const GOOD_SESSION: Duration = Duration::from_secs(5);

/// Renewals without an answer after which a stream counts as dead.
const UNANSWERED: u32 = 4;

/// Messages to the admin that may wait. Acknowledgements come one a delta.
const OUTGOING: usize = 1_024;

/// Largest message from an admin: a snapshot's part is a fraction of it.
const MESSAGE_LIMIT: usize = 16 << 20;

/// Keeps the replica fed: one session after another, until shutdown.
#[derive(Debug)]
pub(crate) struct Subscriber {
    upstream: Upstream,
    follower: Follower<BootClock>,
    validator_id: String,
}

/// How a session ended that did not break.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// This validator is leaving.
    Leaving,
    /// The admin said goodbye, or closed the stream in good order.
    AdminLeft,
}

/// The outgoing half of a session.
struct Speaker {
    outgoing: mpsc::Sender<SyncRequest>,
    seq: u64,
}

impl Subscriber {
    pub(crate) const fn new(upstream: Upstream, follower: Follower<BootClock>, validator_id: String) -> Self {
        Self { upstream, follower, validator_id }
    }

    /// Runs until shutdown.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let mut backoff = Backoff::default();
        for turn in 0.. {
            let begun = Instant::now();
            let ended = self.session(turn, &shutdown).await;
            if begun.elapsed() > GOOD_SESSION {
                backoff.reset();
            }
            match ended {
                Ok(End::Leaving) => return,
                Ok(End::AdminLeft) => tracing::info!("the admin has left; looking for another"),
                Err(error) => tracing::warn!(error = format!("{error:#}"), "not connected to an admin"),
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }

    /// One session: Hello, then what the admin says, until one side ends.
    async fn session(&mut self, turn: usize, shutdown: &Shutdown) -> anyhow::Result<End> {
        let connected = tokio::select! {
            () = shutdown.wait() => return Ok(End::Leaving),
            connected = self.upstream.connect(turn) => connected,
        };
        let (channel, admin) = connected?;
        let (outgoing, requests) = mpsc::channel(OUTGOING);
        let speaker = Speaker { outgoing, seq: 0 };
        speaker.say(self.hello()).await?;
        let mut request = Request::new(ReceiverStream::new(requests));
        if let Some(authorization) = self.upstream.authorization() {
            request.metadata_mut().insert("authorization", authorization);
        }
        let mut client = ReplicaServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
        let opened = tokio::time::timeout(PATIENCE, client.sync(request)).await.context("the admin does not answer")?;
        let incoming = opened.map_err(|status| anyhow::anyhow!("{admin} refuses: {}", status.message()))?.into_inner();
        tracing::info!(admin, "session begins");
        self.follow(incoming, speaker, shutdown).await
    }

    fn hello(&mut self) -> Say {
        let (epoch, position) = self.follower.begin();
        Say::Hello(Hello {
            validator_id: self.validator_id.clone(),
            epoch: epoch.to_owned(),
            revision: position.revision.0,
            chain: position.chain.clone(),
            protocol: PROTOCOL,
        })
    }

    async fn follow(
        &mut self,
        mut incoming: Streaming<SyncResponse>,
        mut speaker: Speaker,
        shutdown: &Shutdown,
    ) -> anyhow::Result<End> {
        // Until the Welcome says better.
        let mut interval = PATIENCE;
        let mut renew = ticks(interval);
        let mut heard = Instant::now();
        loop {
            let complete = self.follower.is_complete();
            let patience = if complete { interval * UNANSWERED } else { SNAPSHOT_PATIENCE };
            tokio::select! {
                () = shutdown.wait() => {
                    self.follower.leave();
                    speaker.say(Say::Goodbye(Goodbye { reason: "draining".to_owned() })).await?;
                    // The admin ends the stream when it has heard; left before, the Goodbye might be lost, and
                    // deactivations would wait for a lease that nobody uses.
                    let _ = tokio::time::timeout(PATIENCE, async { while let Ok(Some(_)) = incoming.message().await {} }).await;
                    return Ok(End::Leaving);
                }
                _ = renew.tick(), if complete => speaker.renew(&mut self.follower).await?,
                () = tokio::time::sleep_until(heard + patience) => bail!("the admin has fallen silent"),
                said = incoming.message() => {
                    heard = Instant::now();
                    let Some(said) = said? else { return Ok(End::AdminLeft) };
                    let Some(said) = said.message else { continue };
                    if let Said::Welcome(welcome) = &said {
                        interval = decode::renew_interval(welcome)?;
                        renew = ticks(interval);
                    }
                    let Some(message) = decode::message(said)? else { return Ok(End::AdminLeft) };
                    if let Some(Reply::Ack(revision)) = self.follower.handle(message)? {
                        speaker.say(Say::Ack(Ack { revision: revision.0 })).await?;
                    }
                    if !complete && self.follower.is_complete() {
                        tracing::info!(revision = %self.follower.revision(), "the replica is complete");
                        renew.reset_immediately();
                    }
                }
            }
        }
    }
}

impl Speaker {
    async fn renew(&mut self, follower: &mut Follower<BootClock>) -> anyhow::Result<()> {
        self.seq += 1;
        follower.renewing(self.seq);
        self.say(Say::Renew(Renew { seq: self.seq, revision: follower.revision().0 })).await
    }

    async fn say(&self, message: Say) -> anyhow::Result<()> {
        let sent = self.outgoing.send_timeout(SyncRequest { message: Some(message) }, PATIENCE).await;
        if sent.is_err() {
            bail!("the stream to the admin is broken or stuck");
        }
        Ok(())
    }
}

fn ticks(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    // After a pause one renewal is as good as many.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
