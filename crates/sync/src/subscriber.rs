use std::pin::Pin;
use std::time::Duration;

use keyward_proto::replica::sync_request::Message as Say;
use keyward_proto::replica::sync_response::Message as Said;
use keyward_proto::replica::{Ack, Hello, SyncResponse};
use keyward_replica::{AnyClock, Follower, HolderSession, Reply};
use tokio::time::Instant;

use crate::backoff::{Backoff, start_anywhere};
use crate::decode;
use crate::link::{Event, Link};
use crate::stop::Stop;
use crate::upstream::Upstream;

/// The version of the protocol that this validator speaks.
const PROTOCOL: u32 = 1;

/// A session that lasted so long went well: the next try need not wait for long.
const GOOD_SESSION: Duration = Duration::from_secs(5);

/// Keeps the replica fed: one session after another, until it is told to stop.
///
/// When the admin of a session leaves, or its grants grow short because it hears little from its database, another
/// session is begun beside the first. Only with a lease from there is the first one's given up, and only then is Goodbye
/// said: the validator can answer throughout, and the admin that it leaves need not wait for it.
pub struct Subscriber {
    upstream: Upstream,
    follower: Follower<AnyClock>,
    validator_id: String,
    /// Which admin is next.
    turn: usize,
    /// Tries in a row that came to nothing.
    failures: usize,
    backoff: Backoff,
}

/// A session about to be opened.
type Opening = Pin<Box<dyn Future<Output = anyhow::Result<Link>> + Send>>;

/// The session that the validator lives by, and the one that it may move to.
struct Links {
    current: Link,
    next: Next,
}

/// How far a move has come.
enum Next {
    /// Nothing to move for, or not before that instant.
    None(Instant),
    Opening(HolderSession, Opening),
    /// Beside the first, until it has a lease.
    Open(Box<Link>),
}

/// What happened.
enum Happened {
    Leave,
    Current(anyhow::Result<Event>),
    Next(anyhow::Result<Event>),
    Opened(anyhow::Result<Box<Link>>),
    /// Time to look for another admin.
    Seek,
}

/// How the life by one session ended.
enum End {
    /// This validator is leaving.
    Leaving,
    /// The session is over; another has been opened beside it.
    GoOnWith(Box<Link>),
    /// The session is over.
    Lost,
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriber").field("validator_id", &self.validator_id).finish_non_exhaustive()
    }
}

impl Subscriber {
    /// Feeds the replica behind `follower`. `validator_id`: unique to this process, for logs and receipts.
    pub fn new(upstream: Upstream, follower: Follower<AnyClock>, validator_id: String) -> Self {
        // Anywhere in the list, so that many validators with the same list spread over it.
        let turn = start_anywhere(upstream.count());
        Self { upstream, follower, validator_id, turn, failures: 0, backoff: Backoff::default() }
    }

    /// Runs until it is told to stop, and says Goodbye then.
    pub async fn run(mut self, stop: Stop) {
        let mut given = None;
        loop {
            let link = match given.take() {
                Some(link) => link,
                None => {
                    let Some(link) = self.connect(&stop).await else { return };
                    link
                }
            };
            let begun = Instant::now();
            let end = self.live_by(link, &stop).await;
            if begun.elapsed() > GOOD_SESSION {
                self.backoff.reset();
            }
            match end {
                End::Leaving => return,
                End::GoOnWith(link) => given = Some(*link),
                End::Lost => {
                    tokio::select! {
                        () = stop.wait() => return,
                        () = tokio::time::sleep(self.pause()) => {}
                    }
                }
            }
        }
    }

    /// How long to wait before the next try: not at all as long as there are admins that were not tried.
    fn pause(&mut self) -> Duration {
        self.failures += 1;
        if self.failures.is_multiple_of(self.upstream.count()) { self.backoff.next_wait() } else { Duration::ZERO }
    }

    /// Opens a session with whichever admin answers; `None`: this validator is leaving.
    async fn connect(&mut self, stop: &Stop) -> Option<Link> {
        loop {
            let (session, opening) = self.open();
            let opened = tokio::select! {
                () = stop.wait() => return None,
                opened = opening => opened,
            };
            match opened {
                Ok(link) => return Some(link),
                Err(error) => self.not_connected(session, &error),
            }
            tokio::select! {
                () = stop.wait() => return None,
                () = tokio::time::sleep(self.pause()) => {}
            }
        }
    }

    fn open(&mut self) -> (HolderSession, Opening) {
        let snapshot = self.follower.wants_snapshot();
        let (session, epoch, position) = self.follower.begin();
        let hello = Say::Hello(Hello {
            validator_id: self.validator_id.clone(),
            epoch: epoch.to_owned(),
            revision: position.revision.0,
            chain: position.chain.clone(),
            protocol: PROTOCOL,
            snapshot,
        });
        let opening = Link::open(self.upstream.clone(), self.turn, session, hello);
        self.turn = (self.turn + 1) % self.upstream.count();
        (session, Box::pin(opening))
    }

    fn not_connected(&mut self, session: HolderSession, error: &anyhow::Error) {
        self.follower.broke(session);
        tracing::warn!(error = format!("{error:#}"), "not connected to an admin");
    }

    async fn live_by(&mut self, link: Link, stop: &Stop) -> End {
        let mut links = Links { current: link, next: Next::None(Instant::now()) };
        loop {
            let seek = self.wants_to_move(&links.current);
            match links.happens(seek, stop).await {
                Happened::Leave => {
                    self.leave(links).await;
                    return End::Leaving;
                }
                Happened::Current(event) => {
                    if let Err(error) = self.take(&mut links.current, event).await {
                        return self.lost(links, &error);
                    }
                    if let Some(why) = self.is_useless(&mut links.current) {
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
                Happened::Seek => {
                    // Not with the same one once more.
                    if self.turn == links.current.turn {
                        self.turn = (self.turn + 1) % self.upstream.count();
                    }
                    let (session, opening) = self.open();
                    links.next = Next::Opening(session, opening);
                }
            }
        }
    }

    /// Whether another admin would be better: this one leaves, or its grants have grown short.
    fn wants_to_move(&self, current: &Link) -> bool {
        if self.upstream.count() < 2 {
            return false;
        }
        let short = self.follower.lease_left(current.session) < current.terms().lease * 2 / 3;
        current.admin_leaves || (current.should_have_a_lease() && short)
    }

    /// Why a session is not worth going on with, where there is no other admin to move to; the one address may stand for
    /// several.
    fn is_useless(&self, current: &mut Link) -> Option<&'static str> {
        if self.upstream.count() > 1 {
            return None;
        }
        if current.admin_leaves {
            return Some("the admin leaves, and there is no other");
        }
        current.is_barren(self.follower.lease_left(current.session)).then_some("the admin grants no lease")
    }

    fn later(&mut self) -> Next {
        Next::None(Instant::now() + self.pause())
    }

    /// Takes what happened on one stream.
    async fn take(&mut self, link: &mut Link, event: anyhow::Result<Event>) -> anyhow::Result<()> {
        match event? {
            Event::Said(said) => self.hear(link, *said).await,
            Event::Ended => anyhow::bail!("{} has ended the session", link.admin),
            Event::RenewalIsDue => {
                let revision = self.follower.revision_of(link.session).0;
                let (follower, session) = (&mut self.follower, link.session);
                link.renew(revision, |seq| follower.renewing(session, seq)).await
            }
        }
    }

    async fn hear(&mut self, link: &mut Link, said: SyncResponse) -> anyhow::Result<()> {
        let Some(said) = said.message else { return Ok(()) };
        match &said {
            Said::Welcome(welcome) => link.agree(decode::terms(welcome)?),
            Said::SnapshotChunk(chunk) if chunk.last => link.is_now_whole(),
            _ => {}
        }
        let Some(message) = decode::message(said)? else {
            tracing::info!(admin = link.admin, "the admin is leaving");
            link.admin_leaves = true;
            return Ok(());
        };
        let withheld_before = self.follower.withheld();
        let reply = self.follower.handle(link.session, message)?;
        self.tell_of_forks(withheld_before);
        if let Some(Reply::Ack(revision)) = reply {
            link.say(Say::Ack(Ack { revision: revision.0 })).await?;
        }
        if self.follower.is_complete(link.session) && link.is_now_complete() {
            tracing::info!(admin = link.admin, revision = %self.follower.revision(), "the replica is complete");
        }
        Ok(())
    }

    /// Raises the alarm when tokens begin to be refused for what a former history said.
    fn tell_of_forks(&self, withheld_before: usize) {
        let withheld = self.follower.withheld();
        if withheld_before == 0 && withheld > 0 {
            tracing::error!(
                withheld,
                "the database has another history now; what was seen denied stays denied until an owner accepts it"
            );
        } else if withheld_before > 0 && withheld == 0 {
            tracing::info!("an owner has accepted the database's history");
        }
    }

    /// Takes what happened on the stream beside; moves over to it once it has a lease that is worth it.
    async fn take_next(&mut self, links: Links, event: anyhow::Result<Event>) -> Links {
        let Links { mut current, next } = links;
        let Next::Open(mut link) = next else { return Links { current, next } };
        if let Err(error) = self.take(&mut link, event).await {
            self.not_connected(link.session, &error);
            return Links { current, next: self.later() };
        }
        let (left, better) = (self.follower.lease_left(current.session), self.follower.lease_left(link.session));
        if better.is_zero() {
            // An admin that should have granted and has not is no better.
            if link.should_have_a_lease() {
                self.part_with(*link, "no lease to be had");
                return Links { current, next: self.later() };
            }
            return Links { current, next: Next::Open(link) };
        }
        // What is gained by a move must be worth it: of several admins whose database is slow one is always a little ahead.
        let gain = left + link.terms().lease / 10;
        if better < gain && !current.admin_leaves {
            self.part_with(*link, "its lease is no better");
            return Links { current, next: self.later() };
        }
        std::mem::swap(&mut current, &mut link);
        tracing::info!(from = link.admin, to = current.admin, "moved to another admin");
        self.part_with(*link, "moved to another admin");
        Links { current, next: self.later() }
    }

    /// Gives up a session's lease, and then says so; nobody waits for the admin to have heard.
    fn part_with(&mut self, link: Link, reason: &'static str) {
        self.follower.leave(link.session);
        tokio::spawn(link.goodbye(reason));
    }

    fn lost(&mut self, links: Links, error: &anyhow::Error) -> End {
        let Links { current, next } = links;
        if !self.follower.lease_left(current.session).is_zero() {
            // It was of use, so the others are worth a try at once.
            self.failures = 0;
        }
        self.follower.broke(current.session);
        tracing::warn!(error = format!("{error:#}"), admin = current.admin, "a session is over");
        match next {
            Next::Open(link) => End::GoOnWith(link),
            Next::Opening(session, _) => {
                self.follower.broke(session);
                End::Lost
            }
            Next::None(_) => End::Lost,
        }
    }

    /// Ends everything in good order.
    async fn leave(&mut self, links: Links) {
        let Links { current, next } = links;
        self.follower.leave(current.session);
        let beside = match next {
            Next::Open(link) => {
                self.follower.leave(link.session);
                Some(link)
            }
            Next::None(_) | Next::Opening(..) => None,
        };
        // Both are heard, for the process may end with this.
        let beside = async {
            if let Some(link) = beside {
                link.goodbye("draining").await;
            }
        };
        tokio::join!(current.goodbye("draining"), beside);
    }
}

impl Links {
    /// Waits for what happens next. Cancel safe.
    async fn happens(&mut self, seek: bool, stop: &Stop) -> Happened {
        let Self { current, next } = self;
        let beside = async {
            match next {
                Next::None(not_before) if seek => {
                    tokio::time::sleep_until(*not_before).await;
                    Happened::Seek
                }
                Next::None(_) => std::future::pending().await,
                Next::Opening(_, opening) => Happened::Opened(opening.await.map(Box::new)),
                Next::Open(link) => Happened::Next(link.next().await),
            }
        };
        tokio::select! {
            () = stop.wait() => Happened::Leave,
            event = current.next() => Happened::Current(event),
            happened = beside => happened,
        }
    }
}
