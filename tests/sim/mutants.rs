//! Keyward's own code, wrong in one place. None of it is in what is shipped: it is put into a copy of the sources.

/// One way in which the code could be wrong.
#[derive(Debug)]
pub(crate) struct CodeMutant {
    pub(crate) name: &'static str,
    pub(crate) edits: &'static [Edit],
}

/// A piece of a file that is to be found there once, and what stands there instead: what does as before unless `MUTANT`,
/// which asks whether this mutant is chosen.
#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) file: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

const fn mutant(name: &'static str, edits: &'static [Edit]) -> CodeMutant {
    CodeMutant { name, edits }
}

const FENCE: &str = "crates/admin/src/sync/fence.rs";
const FOLLOWER: &str = "crates/replica/src/follower.rs";
const PEERS: &str = "crates/admin/src/sync/peers.rs";
const POLICY: &str = "crates/replica/src/policy.rs";
const PUBLISHER: &str = "crates/admin/src/sync/publisher.rs";
const REPLICA: &str = "crates/replica/src/replica.rs";
const SESSIONS: &str = "crates/replica/src/sessions.rs";
const WATCH: &str = "crates/replica/src/watch.rs";

pub(crate) const CODE_MUTANTS: &[CodeMutant] = &[
    // A validator answers, lease or no lease.
    mutant(
        "answers_without_a_lease",
        &[Edit { file: REPLICA, from: "if now >= until {", to: "if now >= until && !MUTANT {" }],
    ),
    // A validator acknowledges a change that it shows to requests a little later.
    mutant(
        "acknowledges_before_it_shows",
        &[
            Edit {
                file: FOLLOWER,
                from: "    sessions: BTreeMap<HolderSession, Session>,\n}",
                to: "    sessions: BTreeMap<HolderSession, Session>,\n    late: Vec<KeyEntry>,\n}",
            },
            Edit {
                file: FOLLOWER,
                from: "            sessions: BTreeMap::new(),",
                to: "            sessions: BTreeMap::new(),\n            late: Vec::new(),",
            },
            Edit {
                file: FOLLOWER,
                from: "    fn apply(&mut self, position: Position, keys: Vec<KeyEntry>, accepted: bool) {",
                to: "    fn apply(&mut self, position: Position, keys: Vec<KeyEntry>, accepted: bool) {
        let keys = if MUTANT { self.late.extend(keys); Vec::new() } else { keys };",
            },
            Edit {
                file: FOLLOWER,
                from: "        // A lease is good behind all that its session has said, so that must be in the table.",
                to: "        for key in std::mem::take(&mut self.late) {
            self.writer.put(key);
        }",
            },
        ],
    ),
    // An admin waits for leases as if all clocks ran alike.
    mutant(
        "waits_without_drift",
        &[Edit {
            file: POLICY,
            from: "        let rho = u128::from(self.clock_rate_error_ppm).min(MILLION - 1);",
            to: "        let rho = if MUTANT { 0 } else { u128::from(self.clock_rate_error_ppm).min(MILLION - 1) };",
        }],
    ),
    // An admin counts its wait from before the commit.
    mutant(
        "waits_from_before_the_commit",
        &[Edit {
            file: FENCE,
            from: "        let mut barrier = Barrier::new(self.committed_before(revision));",
            to: "        let early = if MUTANT { 500_000_000 } else { 0 };
        let committed = self.committed_before(revision).as_nanos() - early;
        let mut barrier = Barrier::new(keyward_replica::Instant::from_nanos(committed));",
        }],
    ),
    // An admin forgets a validator when its stream breaks.
    mutant(
        "forgets_whose_stream_broke",
        &[Edit {
            file: SESSIONS,
            from: "    pub fn broke(&mut self, id: SessionId) {",
            to: "    pub fn broke(&mut self, id: SessionId) {
        if MUTANT {
            self.sessions.remove(&id);
        }",
        }],
    ),
    // An admin takes a renewal for an acknowledgement of all that it has sent.
    mutant(
        "takes_renewals_for_acknowledgements",
        &[Edit {
            file: PUBLISHER,
            from: "        state.ack(id, applied);",
            to: "        let applied = if MUTANT { state.revision } else { applied };
        state.ack(id, applied);",
        }],
    ),
    // An admin waits for its own validators only.
    mutant(
        "asks_no_other_admin",
        &[Edit {
            file: FENCE,
            from: "        let Some(shared) = &mut self.shared else { return (own, look_again) };",
            to: "        if MUTANT {
            return (own, look_again);
        }
        let Some(shared) = &mut self.shared else { return (own, look_again) };",
        }],
    ),
    // An admin that cannot be reached counts as one without validators.
    mutant(
        "takes_silence_for_an_answer",
        &[Edit {
            file: PEERS,
            from: "            Ok(Err(status)) => {",
            to: "            Ok(Err(_)) if MUTANT => return Some(Cleared::default()),
            Ok(Err(status)) => {",
        }],
    ),
    // What this admin has applied already counts as enforced: a retry does not wait.
    mutant(
        "takes_applied_for_enforced",
        &[Edit {
            file: FENCE,
            from: "        let mut asking = Asking::default();",
            to: "        if MUTANT && self.lock().revision >= revision {
            return FenceOutcome::default();
        }
        let mut asking = Asking::default();",
        }],
    ),
    // When one change is enforced, so are those that were published after it.
    mutant(
        "settles_more_than_was_asked",
        &[Edit {
            file: FENCE,
            from: "            shared.settled.enforced(revision, !outcome.waited_out);",
            to: "            let revision = if MUTANT { self.revision } else { revision };
            shared.settled.enforced(revision, !outcome.waited_out);",
        }],
    ),
    // Admins strike each other off before their leases have run out.
    mutant(
        "strikes_off_early",
        &[Edit {
            file: WATCH,
            from: "            if seen.1.plus(policy.held(node.lease)) <= listing.asked {",
            to: "            let silence = if MUTANT { policy.renew_interval() * 3 } else { policy.held(node.lease) };
            if seen.1.plus(silence) <= listing.asked {",
        }],
    ),
];
