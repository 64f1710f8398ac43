use std::pin::Pin;
use std::time::Duration;

use keyward_proto::replica::sync_request::Message as Outgoing;
use keyward_proto::replica::sync_response::Message as Incoming;
use keyward_proto::replica::{Ack, Hello, SyncResponse};
use keyward_protocol::validator::{Decision, Handover, HolderSession, is_short};
use keyward_replica::{AnyClock, ReplicaWriter};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::{Backoff, start_anywhere};
use crate::candidates::Candidates;
use crate::decode;
use crate::link::{Event, Link};
use crate::upstream::Upstream;
use crate::wire;

/// The version of the replica protocol that this validator speaks.
const PROTOCOL: u32 = 1;

/// A session of at least this length resets the backoff.
const GOOD_SESSION: Duration = Duration::from_secs(5);

/// Feeds the replica: opens one session after another, until it is stopped.
///
/// When a session's admin leaves, or grants short leases because its database is slow, a second session is opened beside the
/// first. The first session is left only once the second one has a lease, and its Goodbye is sent only after its lease is
/// dropped. So the validator answers throughout, and the admin that it leaves need not wait for it.
pub struct Subscriber {
    candidates: Candidates,
    writer: ReplicaWriter<AnyClock>,
    validator_id: String,
    /// The turn of the next attempt, which chooses the admin.
    turn: usize,
    /// Failed attempts in a row.
    failures: usize,
    backoff: Backoff,
}

/// A session that is being opened.
type Opening = Pin<Box<dyn Future<Output = anyhow::Result<Link>> + Send>>;

/// The session that requests are answered under, and the one that the validator may move to.
struct Links {
    current: Link,
    next: Next,
}

/// The second session.
enum Next {
    /// There is none, and none is opened before that instant.
    None(Instant),
    Opening(HolderSession, Opening),
    /// It is open, and has no lease that is worth a move yet.
    Open(Box<Link>),
}

/// The next thing to react to.
enum Happened {
    /// The validator is stopping.
    Stop,
    Current(anyhow::Result<Event>),
    Next(anyhow::Result<Event>),
    Opened(anyhow::Result<Box<Link>>),
    /// A second session should be opened.
    OpenSecond,
}

/// How a session ended.
enum End {
    /// The validator is stopping.
    Stopping,
    /// The session is over, and a second one is open.
    ContinueWith(Box<Link>),
    /// The session is over.
    Lost,
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriber").field("validator_id", &self.validator_id).finish_non_exhaustive()
    }
}

impl Subscriber {
    /// Feeds the replica of `writer`. `validator_id`: unique to this process, for logs and receipts.
    pub fn new(upstream: Upstream, writer: ReplicaWriter<AnyClock>, validator_id: String) -> Self {
        // A random start spreads validators with the same list over its admins.
        let turn = start_anywhere(upstream.count());
        let candidates = Candidates::new(upstream);
        Self { candidates, writer, validator_id, turn, failures: 0, backoff: Backoff::default() }
    }

    /// Runs until `stop` is cancelled, and then sends Goodbye.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut open = None;
        loop {
            let link = match open.take() {
                Some(link) => link,
                None => {
                    let Some(link) = self.connect(&stop).await else { return };
                    link
                }
            };
            let begun = Instant::now();
            let end = self.run_session(link, &stop).await;
            if begun.elapsed() > GOOD_SESSION {
                self.backoff.reset();
            }
            match end {
                End::Stopping => return,
                End::ContinueWith(link) => open = Some(*link),
                End::Lost => {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(self.pause()) => {}
                    }
                }
            }
        }
    }

    /// How long to wait before the next attempt: zero while there are untried admins.
    fn pause(&mut self) -> Duration {
        self.failures += 1;
        if self.failures.is_multiple_of(self.candidates.count()) { self.backoff.next_wait() } else { Duration::ZERO }
    }

    /// Opens a session with the first admin that answers; `None` if the validator is stopping.
    async fn connect(&mut self, stop: &CancellationToken) -> Option<Link> {
        loop {
            let (session, opening) = self.open();
            let opened = tokio::select! {
                () = stop.cancelled() => return None,
                opened = opening => opened,
            };
            match opened {
                Ok(link) => return Some(link),
                Err(error) => self.not_connected(session, &error),
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(self.pause()) => {}
            }
        }
    }

    fn open(&mut self) -> (HolderSession, Opening) {
        let opening = self.writer.begin();
        let position = opening.position;
        let hello = Hello {
            validator_id: self.validator_id.clone(),
            epoch: position.map(|proven| proven.position.epoch.to_string()).unwrap_or_default(),
            revision: position.map_or(0, |proven| proven.position.revision.0),
            chain: position.map(|proven| proven.to_wire()).unwrap_or_default(),
            protocol: PROTOCOL,
            snapshot: opening.snapshot,
        };
        let session = opening.session;
        let opening = Link::open(self.candidates.clone(), self.turn, session, hello);
        self.turn = self.turn.wrapping_add(1);
        (session, Box::pin(opening))
    }

    fn not_connected(&mut self, session: HolderSession, error: &anyhow::Error) {
        self.writer.break_stream(session);
        tracing::warn!(error = format!("{error:#}"), "not connected to an admin");
    }

    async fn run_session(&mut self, link: Link, stop: &CancellationToken) -> End {
        let mut links = Links { current: link, next: Next::None(Instant::now()) };
        loop {
            let open_second = self.wants_to_move(&links.current);
            match links.happens(open_second, stop).await {
                Happened::Stop => {
                    self.leave(links).await;
                    return End::Stopping;
                }
                Happened::Current(event) => {
                    if let Err(error) = self.take(&mut links.current, event).await {
                        return self.lost(links, &error);
                    }
                    if let Some(why) = self.why_useless(&mut links.current) {
                        return self.lost(links, &anyhow::anyhow!(why));
                    }
                }
                Happened::Next(event) => links = self.take_next(links, event).await,
                Happened::Opened(Ok(link)) => links.next = Next::Open(link),
                Happened::Opened(Err(error)) => {
                    if let Next::Opening(session, _) = links.next {
                        self.not_connected(session, &error);
                    }
                    links.next = self.later();
                }
                Happened::OpenSecond => {
                    self.skip_admin_of(&links.current);
                    let (session, opening) = self.open();
                    links.next = Next::Opening(session, opening);
                }
            }
        }
    }

    /// Moves on to a turn that does not choose the admin of the current session, if there is one.
    fn skip_admin_of(&mut self, current: &Link) {
        for _ in 1..self.candidates.count() {
            if !self.candidates.leads_to(self.turn, current.connected) {
                break;
            }
            self.turn = self.turn.wrapping_add(1);
        }
    }

    /// Returns `true` if another admin should be tried: this one leaves, or its leases are short.
    fn wants_to_move(&self, current: &Link) -> bool {
        if self.candidates.count() < 2 {
            return false;
        }
        let short = is_short(self.writer.lease_left(current.session), current.terms().lease);
        current.admin_leaves || (current.should_have_a_lease() && short)
    }

    /// Why a session should be ended although no other admin is configured; `None` if it should not. The one address may lead
    /// to several admins.
    fn why_useless(&self, current: &mut Link) -> Option<&'static str> {
        if self.candidates.count() > 1 {
            return None;
        }
        if current.admin_leaves {
            return Some("the admin leaves, and there is no other");
        }
        current
            .is_without_lease_for_too_long(self.writer.lease_left(current.session))
            .then_some("the admin grants no lease")
    }

    fn later(&mut self) -> Next {
        Next::None(Instant::now() + self.pause())
    }

    /// Takes an event of one stream.
    async fn take(&mut self, link: &mut Link, event: anyhow::Result<Event>) -> anyhow::Result<()> {
        match event? {
            Event::Message(message) => self.receive(link, *message).await,
            Event::Ended => anyhow::bail!("{} has ended the session", link.admin),
            Event::RenewalDue => {
                let revision = self.writer.revision_of(link.session);
                let (writer, session) = (&mut self.writer, link.session);
                link.renew(revision, |seq| writer.renewing(session, seq)).await
            }
        }
    }

    async fn receive(&mut self, link: &mut Link, message: SyncResponse) -> anyhow::Result<()> {
        let Some(message) = message.message else { return Ok(()) };
        let withheld_before = self.writer.withheld();
        let ack = match message {
            Incoming::Welcome(welcome) => {
                let (welcome, keys, terms) = decode::welcome(welcome)?;
                link.welcome(welcome.epoch, terms);
                self.writer.welcome(link.session, welcome, keys)?;
                None
            }
            Incoming::SnapshotChunk(chunk) => {
                if chunk.last {
                    link.set_snapshot_received();
                }
                self.writer.receive(link.session, decode::chunk(chunk, link.epoch()?)?)?
            }
            Incoming::Delta(delta) => self.writer.receive(link.session, decode::delta(delta, link.epoch()?)?)?,
            Incoming::Grant(grant) => self.writer.receive(link.session, decode::grant(grant)?)?,
            Incoming::Goodbye(_) => {
                tracing::info!(admin = link.admin, "the admin is leaving");
                link.admin_leaves = true;
                return Ok(());
            }
        };
        self.log_withheld(withheld_before);
        if let Some(revision) = ack {
            link.send(Outgoing::Ack(Ack { revision: revision.0 })).await?;
        }
        self.report_withheld(link).await?;
        if self.writer.is_complete(link.session) && link.set_complete() {
            tracing::info!(admin = link.admin, revision = %self.writer.revision(), "the replica is complete");
        }
        Ok(())
    }

    /// Reports the tokens that this validator denies and that the admin's history accepts for longer. Sent before a lease is
    /// asked for.
    async fn report_withheld(&mut self, link: &Link) -> anyhow::Result<()> {
        let report = self.writer.take_report();
        if report.is_empty() {
            return Ok(());
        }
        tracing::warn!(tokens = report.len(), admin = link.admin, "reporting tokens that a lost history denied");
        for message in wire::withheld_tokens(&report) {
            link.send(Outgoing::Withheld(message)).await?;
        }
        Ok(())
    }

    /// Logs that tokens begin or cease to be withheld.
    fn log_withheld(&self, withheld_before: usize) {
        let withheld = self.writer.withheld();
        if withheld_before == 0 && withheld > 0 {
            tracing::error!(
                withheld,
                "the database has another history now; what was seen denied stays denied until an owner accepts it"
            );
        } else if withheld_before > 0 && withheld == 0 {
            tracing::info!("an owner has accepted the database's history");
        }
    }

    /// Takes an event of the second session. Moves to it once it has a lease that is worth the move.
    async fn take_next(&mut self, links: Links, event: anyhow::Result<Event>) -> Links {
        let Links { mut current, next } = links;
        let Next::Open(mut link) = next else { return Links { current, next } };
        if let Err(error) = self.take(&mut link, event).await {
            self.not_connected(link.session, &error);
            return Links { current, next: self.later() };
        }
        let handover = Handover {
            lease: link.terms().lease,
            current_left: self.writer.lease_left(current.session),
            admin_leaves: current.admin_leaves,
            next_left: self.writer.lease_left(link.session),
            next_is_overdue: link.should_have_a_lease(),
        };
        match handover.decide() {
            Decision::Wait => return Links { current, next: Next::Open(link) },
            Decision::NoLease => self.leave_session(*link, "no lease to be had"),
            Decision::NotBetter => self.leave_session(*link, "its lease is no better"),
            Decision::Move => {
                std::mem::swap(&mut current, &mut link);
                tracing::info!(from = link.admin, to = current.admin, "moved to another admin");
                self.leave_session(*link, "moved to another admin");
            }
        }
        Links { current, next: self.later() }
    }

    /// Drops a session's lease, and then sends Goodbye in the background.
    fn leave_session(&mut self, link: Link, reason: &'static str) {
        self.writer.leave(link.session);
        tokio::spawn(link.goodbye(reason));
    }

    fn lost(&mut self, links: Links, error: &anyhow::Error) -> End {
        let Links { current, next } = links;
        if !self.writer.lease_left(current.session).is_zero() {
            // The session was useful, so every admin is tried again without delay.
            self.failures = 0;
        }
        self.writer.break_stream(current.session);
        tracing::warn!(error = format!("{error:#}"), admin = current.admin, "a session is over");
        match next {
            Next::Open(link) => End::ContinueWith(link),
            Next::Opening(session, _) => {
                self.writer.break_stream(session);
                End::Lost
            }
            Next::None(_) => End::Lost,
        }
    }

    /// Ends both sessions with a Goodbye.
    async fn leave(&mut self, links: Links) {
        let Links { current, next } = links;
        self.writer.leave(current.session);
        let beside = match next {
            Next::Open(link) => {
                self.writer.leave(link.session);
                Some(link)
            }
            Next::None(_) | Next::Opening(..) => None,
        };
        // Both Goodbyes are awaited, because the process may end afterwards.
        let beside = async {
            if let Some(link) = beside {
                link.goodbye("draining").await;
            }
        };
        tokio::join!(current.goodbye("draining"), beside);
    }
}

impl Links {
    /// Waits for the next thing to react to. Cancel safe.
    async fn happens(&mut self, open_second: bool, stop: &CancellationToken) -> Happened {
        let Self { current, next } = self;
        let beside = async {
            match next {
                Next::None(not_before) if open_second => {
                    tokio::time::sleep_until(*not_before).await;
                    Happened::OpenSecond
                }
                Next::None(_) => std::future::pending().await,
                Next::Opening(_, opening) => Happened::Opened(opening.await.map(Box::new)),
                Next::Open(link) => Happened::Next(link.next().await),
            }
        };
        tokio::select! {
            () = stop.cancelled() => Happened::Stop,
            event = current.next() => Happened::Current(event),
            happened = beside => happened,
        }
    }
}
