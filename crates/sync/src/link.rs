use std::time::Duration;

use anyhow::{Context, bail};
use keyward_proto::replica::replica_service_client::ReplicaServiceClient;
use keyward_proto::replica::sync_request::Message as Say;
use keyward_proto::replica::{Goodbye, Renew, SyncRequest, SyncResponse};
use keyward_replica::HolderSession;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use crate::decode::Terms;
use crate::upstream::Upstream;

/// How long an admin may take to open a session, or to take a message.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same before the replica is complete: a part of a snapshot may travel long, and HTTP/2's own keepalive tells whether
/// the admin lives.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(60);

/// Renewals without an answer after which a stream counts as dead.
const UNANSWERED: u32 = 4;

/// Messages to the admin that may wait. Acknowledgements come one a delta.
const OUTGOING: usize = 1_024;

/// Largest message from an admin: a snapshot's part is a fraction of it.
const MESSAGE_LIMIT: usize = 16 << 20;

/// One session's stream.
pub(super) struct Link {
    pub(super) session: HolderSession,
    /// Which of the admins it is with.
    pub(super) turn: usize,
    /// For logs.
    pub(super) admin: String,
    incoming: Streaming<SyncResponse>,
    outgoing: mpsc::Sender<SyncRequest>,
    seq: u64,
    terms: Terms,
    renew: Interval,
    heard: Instant,
    /// Since when the replica is complete in this session.
    complete: Option<Instant>,
    /// The snapshot, if there was one, is here as a whole; what may still be missing are a few changes.
    whole: bool,
    /// Since when it has been seen without a lease that it should have.
    lapsed: Option<Instant>,
    /// The admin has said that it leaves.
    pub(super) admin_leaves: bool,
}

/// What happens next on a stream.
pub(super) enum Event {
    Said(Box<SyncResponse>),
    /// The admin ended the stream in good order.
    Ended,
    /// It is time to ask for a grant.
    RenewalIsDue,
}

impl Link {
    /// Opens a session that begins with `hello`. Needs nothing of the caller, so that it can go on beside another session.
    pub(super) async fn open(
        upstream: Upstream,
        turn: usize,
        session: HolderSession,
        hello: Say,
    ) -> anyhow::Result<Self> {
        let (channel, admin) = upstream.connect(turn).await?;
        let (outgoing, requests) = mpsc::channel(OUTGOING);
        outgoing.try_send(SyncRequest { message: Some(hello) })?;
        let mut request = Request::new(ReceiverStream::new(requests));
        if let Some(authorization) = upstream.authorization().await {
            request.metadata_mut().insert("authorization", authorization);
        }
        let mut client = ReplicaServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
        let opened = tokio::time::timeout(PATIENCE, client.sync(request)).await;
        let opened = opened.with_context(|| format!("{admin} does not answer"))?;
        let incoming = opened.map_err(|status| anyhow::anyhow!("{admin} refuses: {}", status.message()))?.into_inner();
        tracing::info!(admin, "session begins");
        let terms = Terms::UNKNOWN;
        Ok(Self {
            session,
            turn,
            admin,
            incoming,
            outgoing,
            seq: 0,
            terms,
            renew: ticks(terms.renew_interval),
            heard: Instant::now(),
            complete: None,
            whole: false,
            lapsed: None,
            admin_leaves: false,
        })
    }

    /// Waits for what happens next. Cancel safe.
    ///
    /// # Errors
    /// The stream broke, or has been silent for too long.
    pub(super) async fn next(&mut self) -> anyhow::Result<Event> {
        let complete = self.complete.is_some();
        let patience = if complete || self.whole { self.terms.renew_interval * UNANSWERED } else { SNAPSHOT_PATIENCE };
        tokio::select! {
            said = self.incoming.message() => {
                self.heard = Instant::now();
                Ok(said?.map_or(Event::Ended, |said| Event::Said(Box::new(said))))
            }
            _ = self.renew.tick(), if complete => Ok(Event::RenewalIsDue),
            () = tokio::time::sleep_until(self.heard + patience) => bail!("{} has fallen silent", self.admin),
        }
    }

    /// The admin's Welcome said how leases go.
    pub(super) fn agree(&mut self, terms: Terms) {
        (self.terms, self.renew) = (terms, ticks(terms.renew_interval));
    }

    /// The replica is complete: a lease is worth asking for, at once. Whether that is news.
    pub(super) fn is_now_complete(&mut self) -> bool {
        if self.complete.is_some() {
            return false;
        }
        self.complete = Some(Instant::now());
        self.renew.reset_immediately();
        true
    }

    /// The last part of the snapshot has come.
    pub(super) const fn is_now_whole(&mut self) {
        self.whole = true;
    }

    /// Whether the replica is complete, and since long enough for a lease to have come.
    pub(super) fn should_have_a_lease(&self) -> bool {
        self.complete.is_some_and(|since| since.elapsed() > self.terms.lease / 3)
    }

    /// Notes how much is left of the session's lease; whether it has had none for too long. A process that was stopped and
    /// goes on finds none, and need only ask.
    pub(super) fn is_barren(&mut self, left: Duration) -> bool {
        if !left.is_zero() || !self.should_have_a_lease() {
            self.lapsed = None;
            return false;
        }
        self.lapsed.get_or_insert_with(Instant::now).elapsed() > self.terms.lease / 2
    }

    pub(super) const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Asks for a grant. `note`: is told the renewal's number before it is sent.
    pub(super) async fn renew(&mut self, revision: i64, note: impl FnOnce(u64)) -> anyhow::Result<()> {
        self.seq += 1;
        note(self.seq);
        self.say(Say::Renew(Renew { seq: self.seq, revision })).await
    }

    pub(super) async fn say(&self, message: Say) -> anyhow::Result<()> {
        let sent = self.outgoing.send_timeout(SyncRequest { message: Some(message) }, PATIENCE).await;
        if sent.is_err() {
            bail!("the stream to {} is broken or stuck", self.admin);
        }
        Ok(())
    }

    /// Ends the session in good order. Nothing may be answered under its lease any more.
    pub(super) async fn goodbye(mut self, reason: &str) {
        if self.say(Say::Goodbye(Goodbye { reason: reason.to_owned() })).await.is_err() {
            return;
        }
        // The admin ends the stream when it has heard; left before, the Goodbye might be lost, and deactivations would
        // wait for a lease that nobody uses.
        let heard = async { while let Ok(Some(_)) = self.incoming.message().await {} };
        let _ = tokio::time::timeout(PATIENCE, heard).await;
    }
}

fn ticks(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    // After a pause one renewal is as good as many.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
