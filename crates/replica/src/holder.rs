use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Instant;

/// A validator's side of its leases: when it asked, what it was granted, and by which session.
///
/// Leases are kept per session, and the latest counts. One that outlived the Goodbye to its session would be a hole: the
/// admin that gave it has stopped waiting for it.
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
    /// Nothing can come any more.
    broken: bool,
    lease: Option<Instant>,
    /// When each renewal that has no grant yet was about to be sent.
    anchors: BTreeMap<u64, Instant>,
}

impl Holder {
    /// Begins a session, beside those that there are. Leases of sessions that broke count on to their ends.
    pub fn begin(&mut self, now: Instant) -> HolderSession {
        self.sessions.retain(|_, s| !s.broken || s.lease.is_some_and(|until| now < until));
        self.newest += 1;
        let session = HolderSession(self.newest);
        self.sessions.insert(session, Session::default());
        session
    }

    /// Notes that renewal `seq` is about to be sent. The lease counts from here, not from the grant's arrival: the admin
    /// may have begun to count just after this.
    pub fn renewing(&mut self, session: HolderSession, seq: u64, now: Instant) {
        if let Some(session) = self.sessions.get_mut(&session).filter(|s| !s.broken) {
            session.anchors.insert(seq, now);
        }
    }

    /// Takes a grant, and returns the instant from which it counts. One that answers no renewal of that session gives
    /// nothing: it could only be counted from a wrong instant.
    pub fn granted(&mut self, session: HolderSession, seq: u64, duration: Duration) -> Option<Instant> {
        let session = self.sessions.get_mut(&session)?;
        let anchor = session.anchors.remove(&seq)?;
        session.anchors.retain(|other, _| *other > seq);
        session.lease = session.lease.max(Some(anchor.plus(duration)));
        Some(anchor)
    }

    /// A session's stream broke: nothing more comes of it, but its lease counts on.
    pub fn broke(&mut self, session: HolderSession) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.broken = true;
            session.anchors.clear();
        }
    }

    /// Ends a session with its lease, at once: before the Goodbye is said.
    pub fn leave(&mut self, session: HolderSession) {
        self.sessions.remove(&session);
    }

    /// Ends every lease at once.
    pub fn drop_all(&mut self) {
        for session in self.sessions.values_mut() {
            session.lease = None;
        }
    }

    /// This holder as it would look if `now` were instant 0, without what can no longer lead to an answer: holders that
    /// differ in the past only become equal, so that a search through all states comes to an end (`tests/model`).
    /// Sessions that broke are one, of number 0; `open` are numbered from 1, in that order. Renewals without a grant are
    /// numbered from 0; their numbers so far come back, for each of `open`. `longest`: no grant is longer.
    #[must_use]
    pub fn canonical(&self, now: Instant, longest: Duration, open: &[HolderSession]) -> (Self, Vec<Vec<u64>>) {
        let shifted = |at: Instant| Instant::from_nanos(at.as_nanos().saturating_sub(now.as_nanos()));
        let ahead = |session: &Session| session.lease.filter(|until| now < *until).map(shifted);
        let useless = Instant::from_nanos(i64::try_from(longest.as_nanos()).map_or(i64::MIN, |longest| -longest));
        // Of the sessions that broke only the latest lease counts.
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

    /// Until when that session's lease runs.
    pub fn lease_of(&self, session: HolderSession) -> Instant {
        self.sessions.get(&session).and_then(|s| s.lease).unwrap_or(Instant::MIN)
    }

    /// Until when it may answer.
    pub fn until(&self) -> Instant {
        self.sessions.values().filter_map(|session| session.lease).max().unwrap_or(Instant::MIN)
    }
}
