//! Waits until no validator can answer from before a revision.

use std::time::Duration;

use keyward_domain::{AdminLife, Error, Position, Revision};
use keyward_protocol::Instant;
use keyward_protocol::admin::{Cleared, Event, FenceId, FenceStatus, PeerBarrier, Pending};
use keyward_replica::Clock;

use crate::sync::peers::Queries;
use crate::sync::publisher::Publisher;

/// The longest interval between two checks of a fence.
const POLL: Duration = Duration::from_secs(1);

/// How much longer than all leases a fence may take, for reading the log and for scheduling.
const SLACK: Duration = Duration::from_secs(5);

/// How much later than computed a fence is checked, because timers are inexact.
const TIMER_ERROR: Duration = Duration::from_millis(1);

/// Which peers a fence waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AwaitedPeers {
    /// All of them.
    All,
    /// Those that can be asked. Waiting for others takes as long as their leases last.
    Reachable,
}

/// A fence in the node, which ends with this value.
struct OpenFence<'a> {
    publisher: &'a Publisher,
    id: FenceId,
}

impl Drop for OpenFence<'_> {
    fn drop(&mut self) {
        self.publisher.handle(Event::FenceEnded(self.id));
    }
}

impl Publisher {
    /// Returns `true` if `revision` is known to be enforced.
    pub(crate) fn is_enforced(&self, revision: Revision) -> bool {
        self.lock().node.is_enforced(revision, self.clock.now())
    }

    /// Waits until `revision`, which is committed, is enforced; for `limit`, if there is one, and no longer than leases can
    /// last. Returns the last status.
    pub(crate) async fn fence(&self, revision: Revision, limit: Option<Duration>, peers: AwaitedPeers) -> FenceStatus {
        let begun = tokio::time::Instant::now();
        let fence = OpenFence { publisher: self, id: self.lock().next_fence() };
        self.handle(Event::FenceBegan { fence: fence.id, revision });
        let mut queries = Queries::default();
        let mut moved = self.movements();
        loop {
            moved.borrow_and_update();
            let now = self.clock.now();
            let status = self.lock().node.fence(fence.id, now);
            let FenceStatus::Pending(pending) = status else { return status };
            // By the newest listing, which may be from before the commit; lives that a later one adds are asked then.
            self.ask_peers(revision, &mut queries);
            // Computed each time: longer leases of other admins may have become known.
            let longest = self.longest_wait();
            let left = limit.unwrap_or(longest).min(longest).saturating_sub(begun.elapsed());
            let unreachable = pending.only_peers && !queries.are_open();
            if left.is_zero() || (peers == AwaitedPeers::Reachable && unreachable) {
                return status;
            }
            tokio::select! {
                _ = moved.changed() => {}
                (life, answer) = queries.next() => {
                    if let Some(cleared) = answer {
                        self.handle(Event::PeerCleared { fence: fence.id, life, cleared });
                    }
                }
                () = tokio::time::sleep(until_next_check(&pending, now).min(left)) => {}
            }
        }
    }

    /// Asks the peers once this admin has applied the revision, and can name its position.
    fn ask_peers(&self, revision: Revision, queries: &mut Queries) {
        let position = self.lock().node.history().position_at(revision);
        if let (Some(peers), Some(position)) = (&self.peers, position) {
            peers.ask(queries, &self.listed_peers(), &position);
        }
    }

    /// Waits, for a peer, until no validator of this admin can answer from before `position`; for `limit`, if there is one, and
    /// no longer than leases can last. Returns `None` if this admin cannot answer: it is not in that life, or follows another
    /// history.
    ///
    /// # Errors
    /// `NOT_YET_ENFORCED` if the limit was too short.
    pub(crate) async fn clear_for_peer(
        &self,
        life: AdminLife,
        position: &Position,
        limit: Option<Duration>,
    ) -> Result<Option<Cleared>, Error> {
        let begun = tokio::time::Instant::now();
        let limit = limit.unwrap_or_else(|| self.longest_wait());
        self.read_log.notify_one();
        let mut moved = self.movements();
        loop {
            moved.borrow_and_update();
            let now = self.clock.now();
            let barrier = self.lock().node.peer_barrier(life, position, now);
            let pending = match barrier {
                PeerBarrier::NotHere => return Ok(None),
                PeerBarrier::Cleared(cleared) => return Ok(Some(cleared)),
                PeerBarrier::Pending(pending) => pending,
            };
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Error::not_yet_enforced(position.revision, pending.missing));
            }
            tokio::select! {
                _ = moved.changed() => {}
                () = tokio::time::sleep(until_next_check(&pending, now).min(left)) => {}
            }
        }
    }

    fn longest_wait(&self) -> Duration {
        self.lock().node.longest_wait() + SLACK
    }
}

fn until_next_check(pending: &Pending, now: Instant) -> Duration {
    pending.next_check.map_or(POLL, |at| at.since(now)) + TIMER_ERROR
}
