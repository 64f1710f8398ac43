//! Deliberate errors in Keyward's own code. They exist only in a copy of the sources, which is built for this test.

/// A deliberate error in the code.
#[derive(Debug)]
pub(crate) struct CodeMutant {
    pub(crate) name: &'static str,
    pub(crate) edits: &'static [Edit],
}

/// A replacement in a file. `from` must occur there exactly once. In `to`, `MUTANT` stands for an expression that is
/// `true` if this mutant is chosen; otherwise the code must behave as before.
#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) file: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

const fn mutant(name: &'static str, edits: &'static [Edit]) -> CodeMutant {
    CodeMutant { name, edits }
}

const FENCE: &str = "crates/protocol/src/admin/enforcement.rs";
const FENCE_IO: &str = "crates/admin/src/sync/fence.rs";
const FOLLOWER: &str = "crates/protocol/src/validator/follower.rs";
const HEARTBEAT: &str = "crates/protocol/src/admin/heartbeat.rs";
const NODE: &str = "crates/protocol/src/admin/node.rs";
const PEERS: &str = "crates/admin/src/sync/peers.rs";
const POLICY: &str = "crates/protocol/src/policy.rs";
const REPLICA: &str = "crates/replica/src/replica.rs";
const SESSIONS: &str = "crates/protocol/src/admin/sessions.rs";
const WATCH: &str = "crates/protocol/src/admin/watch.rs";

pub(crate) const CODE_MUTANTS: &[CodeMutant] = &[
    // A validator answers, lease or no lease.
    mutant(
        "answers_without_a_lease",
        &[Edit { file: REPLICA, from: "if !lease.is_valid_at(now) {", to: "if !lease.is_valid_at(now) && !MUTANT {" }],
    ),
    // A validator acknowledges a change that it shows to requests a little later.
    mutant(
        "acknowledges_before_publishing",
        &[
            Edit {
                file: FOLLOWER,
                from: "    sessions: BTreeMap<HolderSession, Session<T>>,\n}",
                to: "    sessions: BTreeMap<HolderSession, Session<T>>,\n    late: Vec<T::Entry>,\n}",
            },
            Edit {
                file: FOLLOWER,
                from: "            sessions: BTreeMap::new(),",
                to: "            sessions: BTreeMap::new(),\n            late: Vec::new(),",
            },
            Edit {
                file: FOLLOWER,
                from: "lost_change: self.lost_change, table, holder, sessions }",
                to: "lost_change: self.lost_change, table, holder, sessions, late: Vec::new() }",
            },
            Edit {
                file: FOLLOWER,
                from: "    fn apply(&mut self, position: ProvenPosition, keys: Vec<T::Entry>, accepted: bool) {",
                to: "    fn apply(&mut self, position: ProvenPosition, keys: Vec<T::Entry>, accepted: bool) {
        let keys = if MUTANT { self.late.extend(keys); Vec::new() } else { keys };",
            },
            Edit {
                file: FOLLOWER,
                from: "        // A lease covers everything that its session has sent before it, so all of that must be in the table.",
                to: "        for key in std::mem::take(&mut self.late) {
            self.table.put(key);
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
            from: "        let barrier = Barrier::new(known.unwrap_or(now));",
            to: "        let early = std::time::Duration::from_millis(if MUTANT { 500 } else { 0 });
        let barrier = Barrier::new(known.unwrap_or(now).minus(early));",
        }],
    ),
    // An admin forgets a validator when its stream breaks.
    mutant(
        "forgets_leases_of_broken_streams",
        &[Edit {
            file: SESSIONS,
            from: "    pub fn break_stream(&mut self, id: SessionId) {",
            to: "    pub fn break_stream(&mut self, id: SessionId) {
        if MUTANT {
            self.sessions.remove(&id);
        }",
        }],
    ),
    // An admin takes a renewal for an acknowledgement of all that it has sent.
    mutant(
        "takes_renewals_for_acknowledgements",
        &[Edit {
            file: NODE,
            from: "        self.ack(session, applied);",
            to: "        let applied = if MUTANT { self.history.head().revision } else { applied };
        self.ack(session, applied);",
        }],
    ),
    // An admin waits for its own validators only.
    mutant(
        "asks_no_other_admin",
        &[Edit {
            file: FENCE,
            from: "        let Some(cluster) = &mut self.cluster else { return own.status() };",
            to: "        if MUTANT {
            return own.status();
        }
        let Some(cluster) = &mut self.cluster else { return own.status() };",
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
            file: FENCE_IO,
            from: "        let mut queries = Queries::default();",
            to: "        if MUTANT && self.lock().revision() >= revision {
            let by = keyward_protocol::admin::EnforcedBy::Acks;
            return FenceStatus::Enforced { acked: 0, lapsed: 0, by };
        }
        let mut queries = Queries::default();",
        }],
    ),
    // An enforced change makes later changes count as enforced too.
    mutant(
        "marks_later_changes_enforced",
        &[Edit {
            file: FENCE,
            from: "            cluster.enforced.enforced(revision, by);",
            to: "            let revision = if MUTANT { self.history.head().revision } else { revision };
            cluster.enforced.enforced(revision, by);",
        }],
    ),
    // Admins evict each other before their leases have expired.
    mutant(
        "evicts_early",
        &[
            Edit {
                file: WATCH,
                from: "            let held = policy.held(node.lease);",
                to: "            let held = if MUTANT { policy.renew_interval() * 3 } else { policy.held(node.lease) };",
            },
            Edit {
                file: HEARTBEAT,
                from: "        cluster.watch.peer_heartbeat(life, asked, sent, policy.held(lease), now);",
                to: "        let held = if MUTANT { policy.renew_interval() * 3 } else { policy.held(lease) };
        cluster.watch.peer_heartbeat(life, asked, sent, held, now);",
            },
        ],
    ),
];
