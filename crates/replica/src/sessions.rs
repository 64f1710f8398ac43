use std::collections::{BTreeMap, BTreeSet};

use keyward_domain::Revision;

/// Numbers the sessions of one admin process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u64);

/// An admin's record of its sessions: who may answer, and how far each has come.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<SessionId, Session>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Session {
    /// Whether it ever got a grant. Before that it does not answer, so nobody needs to wait for it.
    leased: bool,
    acked: Revision,
}

impl Sessions {
    /// A session begins.
    pub fn join(&mut self, id: SessionId) {
        self.sessions.insert(id, Session::default());
    }

    /// A session ended; its validator stops answering when it notices.
    pub fn leave(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    /// A session gets a grant.
    pub fn grant(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.leased = true;
        }
    }

    /// A session has applied `revision`. Acknowledgements never go back.
    pub fn ack(&mut self, id: SessionId, revision: Revision) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.acked = session.acked.max(revision);
        }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

/// A wait for every session that may answer from before `revision`.
#[derive(Debug)]
pub struct Barrier {
    revision: Revision,
    waiting: BTreeSet<SessionId>,
    /// Sessions that acknowledged.
    pub acked: usize,
    /// Sessions that ended without.
    pub lapsed: usize,
}

impl Barrier {
    /// Begins the wait. The delta of `revision` must have been sent to every session before: whoever gets its first
    /// grant after that has it already.
    pub fn new(revision: Revision, sessions: &Sessions) -> Self {
        let waiting = sessions.sessions.iter().filter(|(_, s)| s.leased).map(|(id, _)| *id).collect();
        let mut barrier = Self { revision, waiting, acked: 0, lapsed: 0 };
        barrier.advance(sessions);
        barrier
    }

    /// Looks again; true when nobody is left to wait for.
    pub fn advance(&mut self, sessions: &Sessions) -> bool {
        let (mut acked, mut lapsed) = (0, 0);
        self.waiting.retain(|id| match sessions.sessions.get(id) {
            None => {
                lapsed += 1;
                false
            }
            Some(session) if session.acked >= self.revision => {
                acked += 1;
                false
            }
            Some(_) => true,
        });
        self.acked += acked;
        self.lapsed += lapsed;
        self.waiting.is_empty()
    }

    /// How many are still waited for.
    pub fn missing(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: Revision = Revision(5);

    #[test]
    fn a_barrier_waits_for_every_session_that_may_answer_and_no_other() {
        let mut sessions = Sessions::default();
        for id in 0..3 {
            sessions.join(SessionId(id));
        }
        sessions.grant(SessionId(0));
        sessions.grant(SessionId(1));
        let mut barrier = Barrier::new(R, &sessions);
        assert_eq!(barrier.missing(), 2, "session 2 never got a grant");
        sessions.ack(SessionId(0), R);
        sessions.ack(SessionId(1), Revision(4));
        assert!(!barrier.advance(&sessions));
        sessions.ack(SessionId(1), Revision(6));
        assert!(barrier.advance(&sessions));
        assert_eq!((barrier.acked, barrier.lapsed), (2, 0));
    }

    #[test]
    fn an_acknowledgement_never_goes_back() {
        let mut sessions = Sessions::default();
        sessions.join(SessionId(0));
        sessions.grant(SessionId(0));
        sessions.ack(SessionId(0), R);
        sessions.ack(SessionId(0), Revision(1));
        assert_eq!(Barrier::new(R, &sessions).missing(), 0);
    }

    #[test]
    fn a_session_that_ends_without_acknowledging_counts_as_lapsed() {
        let mut sessions = Sessions::default();
        sessions.join(SessionId(0));
        sessions.grant(SessionId(0));
        let mut barrier = Barrier::new(R, &sessions);
        sessions.leave(SessionId(0));
        assert!(barrier.advance(&sessions));
        assert_eq!((barrier.acked, barrier.lapsed), (0, 1));
    }
}
