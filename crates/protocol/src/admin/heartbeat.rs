//! One admin among several over one database: it sends heartbeats so that the others know that it may have leases in use,
//! grants no further than its last heartbeat reaches, and evicts admins without heartbeats.

use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Position};

use crate::admin::barrier::Listing;
use crate::admin::cluster::{Cluster, SentHeartbeat};
use crate::admin::event::Effect;
use crate::admin::history::contradicts;
use crate::admin::node::Node;
use crate::time::Instant;

impl Node {
    /// Records that a heartbeat is about to be sent. `seen`: the newest position that this process knows to be in the log, if
    /// it is newer than the head; it is what this process has committed but not applied yet.
    pub(super) fn heartbeat_sent(&mut self, seen: Option<Position>, now: Instant) {
        let head = self.history.head();
        let known = seen.filter(|seen| seen.revision > head.revision).unwrap_or(head);
        if let Some(cluster) = &mut self.cluster {
            cluster.heartbeat = Some(SentHeartbeat { sent: now, epoch: head.epoch, known });
        }
    }

    /// Takes the answer to the last heartbeat: the end of the log, and the rows of all admins.
    pub(super) fn heartbeat_answered(&mut self, log: Position, nodes: Vec<AdminNode>, now: Instant) -> Vec<Effect> {
        let policy = *self.policy();
        let head = self.history.head();
        let heartbeat = self.cluster.as_mut().and_then(|cluster| cluster.heartbeat.take());
        if let (Some(cluster), Some(heartbeat)) = (self.cluster.as_mut(), heartbeat) {
            cluster.answered = Some(heartbeat.sent);
        }
        // An answer to a heartbeat of another epoch proves nothing in this one.
        let Some(SentHeartbeat { sent, known, .. }) = heartbeat.filter(|heartbeat| heartbeat.epoch == head.epoch)
        else {
            return Vec::new();
        };
        // Changes may have been applied since the heartbeat was sent; then the log's end must be among them.
        let applied = (log.revision <= head.revision).then(|| self.history.position_at(log.revision));
        let conflicts = applied.flatten().is_some_and(|applied| applied.chain != log.chain);
        let contradicted = contradicts(&log, &known) || conflicts;
        if !contradicted && applied == Some(None) && log != known {
            // The position is not kept any more, so nothing can be concluded.
            return Vec::new();
        }
        let mut effects = Vec::new();
        if contradicted {
            effects.extend(self.doubt());
        } else {
            // Reads of the log must find it: a grant is good only behind everything committed before the heartbeat.
            effects.push(Effect::PositionSeen(log));
        }
        let in_doubt = self.history.is_in_doubt();
        let Some(cluster) = self.cluster.as_mut().filter(|_| !in_doubt) else {
            effects.extend([Effect::ReadLog, Effect::Moved]);
            return effects;
        };
        cluster.basis.heartbeat(sent, log.revision);
        let silent = cluster.listed(Listing { asked: sent, nodes }, &policy, now);
        effects.extend(silent.evict.into_iter().map(Effect::Evict));
        effects.extend(silent.ask.into_iter().map(Effect::AskHeartbeat));
        if head.revision < log.revision {
            effects.push(Effect::ReadLog);
        }
        effects.push(Effect::Moved);
        effects
    }

    /// How long ago this admin sent the newest heartbeat that its database has answered; `None` if there is none, or if this admin
    /// is not in `life`. For a peer that misses the heartbeats of that life.
    pub fn answered_heartbeat(&self, life: AdminLife, now: Instant) -> Option<Duration> {
        let cluster = self.cluster.as_ref().filter(|cluster| cluster.life == life)?;
        cluster.answered.map(|sent| now.since(sent))
    }

    /// Takes the answer of a peer that was asked at `asked` for its newest answered heartbeat.
    pub(super) fn peer_heartbeat(&mut self, life: AdminLife, asked: Instant, age: Option<Duration>, now: Instant) {
        let policy = *self.policy();
        let Some(cluster) = &mut self.cluster else { return };
        let Some(lease) = cluster.peers().find(|node| node.life == life).map(|node| node.lease) else { return };
        // The peer measured the age by its own clock.
        let sent = age.map(|age| asked.minus(policy.held(age)));
        cluster.watch.peer_heartbeat(life, asked, sent, policy.held(lease), now);
    }

    /// The number of peers whose heartbeats reach another database server: two servers take writes. While there is one, nothing
    /// new counts as enforced.
    pub fn peers_elsewhere(&self) -> usize {
        self.cluster.as_ref().map_or(0, Cluster::elsewhere)
    }

    /// The row of this life is gone: peers do not wait for its leases any more, so it must not grant any.
    pub(super) fn evicted(&mut self) -> Vec<Effect> {
        if let Some(cluster) = &mut self.cluster {
            cluster.basis.drop_basis();
            cluster.heartbeat = None;
        }
        vec![Effect::Register]
    }

    /// A new life is registered.
    pub(super) const fn registered(&mut self, life: AdminLife) {
        if let Some(cluster) = &mut self.cluster {
            (cluster.life, cluster.answered) = (life, None);
        }
    }

    /// Stops granting, because the process is shutting down. Peers need not wait for this life if none of its leases can be
    /// in use.
    pub(super) fn leaving(&mut self, now: Instant) -> Vec<Effect> {
        let Some(cluster) = &mut self.cluster else { return Vec::new() };
        cluster.basis.drop_basis();
        let life = cluster.life;
        if self.sessions.in_use(now) { Vec::new() } else { vec![Effect::Deregister(life)] }
    }
}
