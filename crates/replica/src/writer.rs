use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{ProvenPosition, Revision, WithheldToken};
use keyward_protocol::validator::{Effect, Follower, FollowerError, HolderSession, Message, Opening, Welcome};

use crate::clock::Clock;
use crate::replica::{Replica, TokenKeys};
use crate::table::TableWriter;

/// Writes a [`Replica`] from the messages of a validator's sessions. A [`Follower`] decides; this type reads the clock and
/// carries the follower's effects out.
#[derive(Debug)]
pub struct ReplicaWriter<C> {
    replica: Arc<Replica<C>>,
    follower: Follower<TableWriter>,
    /// What tokens are looked up by in each session that has had its Welcome.
    keys: BTreeMap<HolderSession, TokenKeys>,
    /// `true` if the session whose message was taken last must report withheld tokens.
    report_due: bool,
}

impl<C: Clock> ReplicaWriter<C> {
    /// The writer of an empty replica.
    pub fn new(replica: Arc<Replica<C>>) -> Self {
        Self { replica, follower: Follower::default(), keys: BTreeMap::new(), report_due: false }
    }

    /// Begins a session beside the existing ones; see [`Follower::begin`].
    pub fn begin(&mut self) -> Opening {
        self.follower.begin(self.replica.clock().now())
    }

    /// Takes a session's Welcome, and what tokens are looked up by in it.
    ///
    /// # Errors
    /// See [`FollowerError`]; the session must be ended.
    pub fn welcome(&mut self, id: HolderSession, welcome: Welcome, keys: TokenKeys) -> Result<(), FollowerError> {
        self.keys.insert(id, keys);
        self.receive(id, Message::Welcome(welcome)).map(|_| ())
    }

    /// Applies one message of a session. Returns the revision to acknowledge, if there is one; every request sees it.
    ///
    /// # Errors
    /// See [`FollowerError`]; the session must be ended.
    pub fn receive(
        &mut self,
        id: HolderSession,
        message: Message<TableWriter>,
    ) -> Result<Option<Revision>, FollowerError> {
        let effects = self.follower.receive(id, message, self.replica.clock().now())?;
        let mut ack = None;
        // Every effect is carried out, in order.
        for effect in effects {
            ack = self.carry_out(id, effect).or(ack);
        }
        Ok(ack)
    }

    fn carry_out(&mut self, id: HolderSession, effect: Effect) -> Option<Revision> {
        match effect {
            Effect::PublishLease(lease) => self.replica.publish_lease(lease),
            Effect::SetWallTime { at, wall } => self.replica.set_wall_time(at, wall),
            Effect::Serve => {
                let keys = self.keys.get(&id).cloned().unwrap_or_default();
                self.replica.install(Arc::clone(self.follower.table().shared()), keys);
            }
            Effect::Ack(revision) => return Some(revision),
            Effect::ReportWithheld => self.report_due = true,
        }
        None
    }

    /// The tokens to report to the admin whose message was taken last: those that this validator denies because an earlier epoch
    /// denied them, and that the epoch of the session accepts for longer. Empty if there is nothing to report.
    pub fn take_report(&mut self) -> Vec<WithheldToken> {
        if std::mem::take(&mut self.report_due) { self.follower.table().accepted_longer() } else { Vec::new() }
    }

    /// Records that renewal `seq` is about to be sent.
    pub fn renewing(&mut self, id: HolderSession, seq: u64) {
        self.follower.renewing(id, seq, self.replica.clock().now());
    }

    /// Records that a session's stream broke. Its lease remains valid until it expires.
    pub fn break_stream(&mut self, id: HolderSession) {
        self.keys.remove(&id);
        self.follower.break_stream(id);
    }

    /// Ends a session and stops answering under its lease, so that Goodbye may be sent.
    pub fn leave(&mut self, id: HolderSession) {
        self.keys.remove(&id);
        let effect = self.follower.leave(id);
        self.carry_out(id, effect);
    }

    /// Returns `true` if the replica is complete in that session, so that a lease is worth asking for.
    pub fn is_complete(&self, id: HolderSession) -> bool {
        self.follower.is_complete(id)
    }

    /// How long that session's lease runs on.
    pub fn lease_left(&self, id: HolderSession) -> Duration {
        self.follower.lease_of(id).left(self.replica.clock().now())
    }

    /// How long requests will be answered without a further grant.
    pub fn left_in_all(&self) -> Duration {
        self.follower.lease().left(self.replica.clock().now())
    }

    /// The position of the replica; `None` before the first snapshot.
    pub fn position(&self) -> Option<ProvenPosition> {
        self.follower.position()
    }

    /// The revision that requests are answered from.
    pub fn revision(&self) -> Revision {
        self.follower.revision()
    }

    /// The revision up to which the table holds everything that the session has sent; see [`Follower::revision_of`].
    pub fn revision_of(&self, id: HolderSession) -> Revision {
        self.follower.revision_of(id)
    }

    /// The number of withheld tokens: those that are denied because a lost history denied them.
    pub fn withheld(&self) -> usize {
        self.follower.table().withheld_len()
    }
}

#[cfg(test)]
mod tests;
