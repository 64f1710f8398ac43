//! The state of a simulation that its machines, clients and faults share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use keyward_admin::set_up_in_memory;
use keyward_domain::AdminLife;
use keyward_runtime::shutdown::ShutdownTrigger;
use keyward_store::Store;
use keyward_token::{Keyring, Token, TokenFormat, TokenKind};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::database::{Database, DatabaseLink};
use crate::history::History;
use crate::mutant::Mutant;
use crate::time::{self, MachineClock};

/// The lease D.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

pub(crate) const ADMINS: usize = 3;

pub(crate) const VALIDATORS: usize = 6;

/// The largest error of a clock's rate.
pub(crate) const RATE_ERROR: f64 = 0.1;

/// One simulation.
pub(crate) struct World {
    pub(crate) mutant: Mutant,
    pub(crate) seed: u64,
    pub(crate) database: Database,
    pub(crate) store: Store,
    pub(crate) keyring: String,
    pub(crate) root: String,
    /// The credential with which admins call each other.
    pub(crate) peer: String,
    pub(crate) database_links: Vec<DatabaseLink>,
    pub(crate) admin_clocks: Vec<Arc<MachineClock>>,
    pub(crate) validator_clocks: Vec<Arc<MachineClock>>,
    history: Mutex<History>,
    lives: [AtomicU32; VALIDATORS],
    credential: Mutex<Option<String>>,
    triggers: Mutex<BTreeMap<String, ShutdownTrigger>>,
}

impl World {
    pub(crate) fn new(seed: u64, mutant: Mutant, loud: bool) -> Arc<Self> {
        let mut random = StdRng::seed_from_u64(seed);
        let format = TokenFormat::default();
        let keyring = Keyring::generate().unwrap();
        let root = Token::generate(&format, TokenKind::Member).unwrap();
        let peer = Token::generate(&format, TokenKind::Member).unwrap();
        let text = keyring.render().to_string();
        let (root_text, peer_text) = (root.expose().to_owned(), peer.expose().to_owned());
        let database = Database::start();
        let made = async move { set_up_in_memory(&keyring, &root, &peer, LEASE, &format).await };
        let store = database.execute(made).unwrap();
        let mut clock = |rate: Option<f64>| {
            let rate = rate.unwrap_or_else(|| random.random_range(1.0 - RATE_ERROR..1.0 + RATE_ERROR));
            MachineClock::new(random.random_range(0.0..1e6), rate)
        };
        let admin_rate = (mutant == Mutant::FastAdminClock).then_some(2.0);
        let validator_rate = (mutant == Mutant::SlowClocks).then_some(0.5);
        Arc::new(Self {
            mutant,
            seed,
            database_links: (0..ADMINS).map(|_| DatabaseLink::to(&database)).collect(),
            database,
            store,
            keyring: text,
            root: root_text,
            peer: peer_text,
            admin_clocks: (0..ADMINS).map(|_| clock(admin_rate)).collect(),
            validator_clocks: (0..VALIDATORS).map(|_| clock(validator_rate)).collect(),
            history: Mutex::new(History::new(loud)),
            lives: Default::default(),
            credential: Mutex::default(),
            triggers: Mutex::default(),
        })
    }

    /// Returns the random generator of one part of the simulation. Each part has its own sequence.
    pub(crate) fn random(&self, part: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(1_000_003).wrapping_add(part))
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    /// Adds an event at the current time to the trace.
    pub(crate) fn note(&self, what: &str) {
        self.history().note(time::now(), what);
    }

    /// Waits for the validators' credential and returns it.
    pub(crate) async fn credential(&self) -> String {
        loop {
            let credential = self.credential.lock().unwrap().clone();
            match credential {
                Some(credential) => return credential,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    pub(crate) fn issue_credential(&self, credential: String) {
        *self.credential.lock().unwrap() = Some(credential);
    }

    /// Returns the number of a validator's current process.
    pub(crate) fn life(&self, validator: usize) -> u32 {
        self.lives[validator].load(Ordering::Relaxed)
    }

    pub(crate) fn begin_next_life(&self, validator: usize) {
        self.lives[validator].fetch_add(1, Ordering::Relaxed);
    }

    /// The mutant: evicts every admin, including running ones.
    pub(crate) fn evict_all_admins(&self) {
        let store = self.store.clone();
        self.database.execute(async move {
            let own = AdminLife::generate();
            store.register_admin(own, LEASE, None).await.unwrap();
            let pulse = store.heartbeat(own).await.unwrap().unwrap();
            for node in &pulse.nodes {
                store.evict_admin(node).await.unwrap();
            }
        });
    }

    /// Registers the trigger that shuts a process down.
    pub(crate) fn register_shutdown(&self, machine: String, trigger: ShutdownTrigger) {
        self.triggers.lock().unwrap().insert(machine, trigger);
    }

    /// Shuts a process down gracefully.
    pub(crate) fn shut_down(&self, machine: &str) {
        if let Some(trigger) = self.triggers.lock().unwrap().get(machine) {
            trigger.leave();
        }
    }
}
