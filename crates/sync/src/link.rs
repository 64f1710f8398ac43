use std::time::Duration;

use anyhow::{Context, bail};
use keyward_domain::{Epoch, Revision};
use keyward_proto::replica::replica_service_client::ReplicaServiceClient;
use keyward_proto::replica::sync_request::Message as Outgoing;
use keyward_proto::replica::{Goodbye, Hello, Renew, SyncRequest, SyncResponse};
use keyward_protocol::validator::HolderSession;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use crate::candidates::{Candidates, Connected};
use crate::decode::Terms;

/// The longest time to open a session, or to send a message.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The longest silence of an admin before the replica is complete. A part of a snapshot may take long to transfer, and
/// HTTP/2's keepalive detects a dead admin.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);

/// A stream counts as dead after this many renew intervals without a message.
const UNANSWERED: u32 = 4;

/// The queue of messages to the admin. There is one acknowledgement per delta.
const OUTGOING: usize = 1_024;

/// The largest message from an admin. A part of a snapshot is much smaller.
const MESSAGE_LIMIT: usize = 16 << 20;

/// The stream of one session.
pub(super) struct Link {
    pub(super) session: HolderSession,
    /// Where the session was opened.
    pub(super) connected: Connected,
    /// The admin's address, for logs.
    pub(super) admin: String,
    incoming: Streaming<SyncResponse>,
    outgoing: mpsc::Sender<SyncRequest>,
    seq: u64,
    terms: Terms,
    renew: Interval,
    last_message: Instant,
    /// The epoch of the session, from the Welcome.
    epoch: Option<Epoch>,
    /// When the replica became complete in this session.
    complete: Option<Instant>,
    /// The last part of the snapshot has arrived; a few changes may still be missing.
    snapshot_received: bool,
    /// When the session was first found without the lease that it should have.
    lapsed: Option<Instant>,
    /// The admin has sent a Goodbye.
    pub(super) admin_leaves: bool,
}

/// The next event on a stream.
pub(super) enum Event {
    Message(Box<SyncResponse>),
    /// The admin ended the stream without an error.
    Ended,
    /// The next renewal is due.
    RenewalDue,
}

impl Link {
    /// Opens a session that begins with `hello`. The future borrows nothing, so that it can run beside another session.
    pub(super) async fn open(
        candidates: Candidates,
        turn: usize,
        session: HolderSession,
        hello: Hello,
    ) -> anyhow::Result<Self> {
        let (channel, connected, admin) = candidates.connect(turn).await?;
        let (outgoing, requests) = mpsc::channel(OUTGOING);
        outgoing.try_send(SyncRequest { message: Some(Outgoing::Hello(hello)) })?;
        let mut request = Request::new(ReceiverStream::new(requests));
        if let Some(authorization) = candidates.authorization().await {
            request.metadata_mut().insert("authorization", authorization);
        }
        let mut client = ReplicaServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
        let opened = tokio::time::timeout(TIMEOUT, client.sync(request)).await;
        let opened = opened.with_context(|| format!("{admin} does not answer"))?;
        let incoming = opened.map_err(|status| anyhow::anyhow!("{admin} refuses: {}", status.message()))?.into_inner();
        tracing::info!(admin, "session begins");
        let terms = Terms::UNKNOWN;
        Ok(Self {
            session,
            connected,
            admin,
            incoming,
            outgoing,
            seq: 0,
            terms,
            renew: ticks(terms.renew_interval),
            last_message: Instant::now(),
            epoch: None,
            complete: None,
            snapshot_received: false,
            lapsed: None,
            admin_leaves: false,
        })
    }

    /// Waits for the next event. Cancel safe.
    ///
    /// # Errors
    /// The stream broke, or the admin was silent for too long.
    pub(super) async fn next(&mut self) -> anyhow::Result<Event> {
        let complete = self.complete.is_some();
        let limit =
            if complete || self.snapshot_received { self.terms.renew_interval * UNANSWERED } else { SNAPSHOT_TIMEOUT };
        tokio::select! {
            message = self.incoming.message() => {
                self.last_message = Instant::now();
                Ok(message?.map_or(Event::Ended, |message| Event::Message(Box::new(message))))
            }
            _ = self.renew.tick(), if complete => Ok(Event::RenewalDue),
            () = tokio::time::sleep_until(self.last_message + limit) => bail!("{} has fallen silent", self.admin),
        }
    }

    /// Takes the epoch and the lease terms of the Welcome.
    pub(super) fn welcome(&mut self, epoch: Epoch, terms: Terms) {
        self.epoch = Some(epoch);
        (self.terms, self.renew) = (terms, ticks(terms.renew_interval));
    }

    /// The epoch of the session.
    ///
    /// # Errors
    /// There was no Welcome yet.
    pub(super) fn epoch(&self) -> anyhow::Result<Epoch> {
        self.epoch.with_context(|| format!("{} sent a message before its Welcome", self.admin))
    }

    /// Records that the replica is complete, and asks for a lease at once. Returns `true` the first time.
    pub(super) fn set_complete(&mut self) -> bool {
        if self.complete.is_some() {
            return false;
        }
        self.complete = Some(Instant::now());
        self.renew.reset_immediately();
        true
    }

    /// Records that the last part of the snapshot has arrived.
    pub(super) const fn set_snapshot_received(&mut self) {
        self.snapshot_received = true;
    }

    /// Returns `true` if the replica has been complete for long enough to have a lease.
    pub(super) fn should_have_a_lease(&self) -> bool {
        self.complete.is_some_and(|since| since.elapsed() > self.terms.lease / 3)
    }

    /// Returns `true` if the session has been without a lease for too long. `left`: how long its lease runs on. A process that
    /// was stopped and resumes finds its lease expired, and needs only to renew.
    pub(super) fn is_without_lease_for_too_long(&mut self, left: Duration) -> bool {
        if !left.is_zero() || !self.should_have_a_lease() {
            self.lapsed = None;
            return false;
        }
        self.lapsed.get_or_insert_with(Instant::now).elapsed() > self.terms.lease / 2
    }

    pub(super) const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Asks for a lease. `record` is called with the renewal's number before the renewal is sent.
    pub(super) async fn renew(&mut self, revision: Revision, record: impl FnOnce(u64)) -> anyhow::Result<()> {
        self.seq += 1;
        record(self.seq);
        self.send(Outgoing::Renew(Renew { seq: self.seq, revision: revision.0 })).await
    }

    pub(super) async fn send(&self, message: Outgoing) -> anyhow::Result<()> {
        let sent = self.outgoing.send_timeout(SyncRequest { message: Some(message) }, TIMEOUT).await;
        if sent.is_err() {
            bail!("the stream to {} is broken or stuck", self.admin);
        }
        Ok(())
    }

    /// Ends the session with a Goodbye. No request may be answered under its lease any more.
    pub(super) async fn goodbye(mut self, reason: &str) {
        if self.send(Outgoing::Goodbye(Goodbye { reason: reason.to_owned() })).await.is_err() {
            return;
        }
        // The admin ends the stream once it has received the Goodbye. If the connection closed earlier, the Goodbye might be
        // lost, and deactivations would wait for a lease that is not in use.
        let ended = async { while let Ok(Some(_)) = self.incoming.message().await {} };
        let _ = tokio::time::timeout(TIMEOUT, ended).await;
    }
}

fn ticks(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    // After a pause, one renewal replaces those that were missed.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
