use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Instant;
use crate::validator::lease::Lease;

/// A validator's record of its leases: when it asked for each, what was granted, and in which session.
///
/// Leases are kept per session, and the latest one counts. A lease that outlived the Goodbye of its session would be
/// unsafe: the admin that granted it no longer waits for it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Holder {
    newest: u64,
    sessions: BTreeMap<HolderSession, Session>,
}

/// Numbers the sessions of one validator process, in the order in which they began.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HolderSession(pub u64);

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct Session {
    /// The stream is over: no grant follows.
    broken: bool,
    lease: Option<Instant>,
    /// For each renewal without a grant: when it was about to be sent.
    anchors: BTreeMap<u64, Instant>,
}

impl Holder {
    /// Begins a session beside the existing ones. Leases of broken sessions remain valid until they expire.
    pub fn begin(&mut self, now: Instant) -> HolderSession {
        self.sessions.retain(|_, s| !s.broken || s.lease.is_some_and(|until| now < until));
        self.newest += 1;
        let session = HolderSession(self.newest);
        self.sessions.insert(session, Session::default());
        session
    }

    /// Records that renewal `seq` is about to be sent. Its lease counts from here and not from the arrival of the grant: the
    /// admin may begin to count right after this.
    pub fn renewing(&mut self, session: HolderSession, seq: u64, now: Instant) {
        if let Some(session) = self.sessions.get_mut(&session).filter(|s| !s.broken) {
            session.anchors.insert(seq, now);
        }
    }

    /// Takes a grant, and returns the instant from which the lease counts. Returns `None` for a grant that answers no renewal
    /// of that session, because there is no instant from which it could safely count.
    pub fn granted(&mut self, session: HolderSession, seq: u64, duration: Duration) -> Option<Instant> {
        let session = self.sessions.get_mut(&session)?;
        let anchor = session.anchors.remove(&seq)?;
        session.anchors.retain(|other, _| *other > seq);
        session.lease = session.lease.max(Some(anchor.plus(duration)));
        Some(anchor)
    }

    /// Records that a session's stream broke. Its lease remains valid until it expires.
    pub fn break_stream(&mut self, session: HolderSession) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.broken = true;
            session.anchors.clear();
        }
    }

    /// Ends a session and its lease at once. To be called before the Goodbye is sent.
    pub fn leave(&mut self, session: HolderSession) {
        self.sessions.remove(&session);
    }

    /// Ends every lease at once.
    pub fn drop_all(&mut self) {
        for session in self.sessions.values_mut() {
            session.lease = None;
        }
    }

    /// This holder on a clock whose zero is `now`, without anything that can no longer lead to an answer: holders that differ
    /// only in the past become equal, so that a search through all states ends. Broken sessions become one, with number 0;
    /// the sessions of `open` are numbered from 1 in that order. Renewals without a grant are numbered from 0; the second
    /// value returned holds their previous numbers, for each session of `open`. `longest`: no grant is longer.
    #[must_use]
    pub fn canonical(&self, now: Instant, longest: Duration, open: &[HolderSession]) -> (Self, Vec<Vec<u64>>) {
        let shifted = |at: Instant| at.relative_to(now);
        let ahead = |session: &Session| session.lease.filter(|until| now < *until).map(shifted);
        let useless = Instant::default().minus(longest);
        // Of the broken sessions, only the latest lease counts.
        let broken = self.sessions.values().filter(|s| s.broken).filter_map(ahead).max();
        let broken = broken.map(|lease| Session { broken: true, lease: Some(lease), anchors: BTreeMap::new() });
        let kept: Vec<_> = open.iter().filter_map(|id| self.sessions.get(id)).filter(|s| !s.broken).collect();
        let renumbered = kept.iter().map(|session| {
            let anchors = (0..).zip(session.anchors.values().map(|at| shifted(*at).max(useless))).collect();
            Session { broken: false, lease: ahead(session), anchors }
        });
        let sessions = (0..).map(HolderSession);
        let sessions = sessions.zip(std::iter::once(broken).chain(renumbered.map(Some)));
        let sessions = sessions.filter_map(|(id, session)| Some((id, session?))).collect();
        let seqs = kept.iter().map(|session| session.anchors.keys().copied().collect()).collect();
        (Self { newest: kept.len() as u64, sessions }, seqs)
    }

    /// The lease of one session.
    pub fn lease_of(&self, session: HolderSession) -> Lease {
        self.sessions.get(&session).and_then(|s| s.lease).map_or(Lease::NONE, Lease::until)
    }

    /// The lease that requests are answered under: the latest of all sessions.
    pub fn lease(&self) -> Lease {
        self.sessions.values().filter_map(|session| session.lease).max().map_or(Lease::NONE, Lease::until)
    }
}
