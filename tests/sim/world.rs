//! What is in a simulation, and what all of its machines share with whoever watches it.

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

use crate::database::{Database, Way};
use crate::history::History;
use crate::mutant::Mutant;
use crate::time::{self, MachineClock};

/// D.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

pub(crate) const ADMINS: usize = 3;

pub(crate) const VALIDATORS: usize = 6;

/// How far clocks are off, at most.
pub(crate) const RATE_ERROR: f64 = 0.1;

/// One simulation.
pub(crate) struct World {
    pub(crate) mutant: Mutant,
    pub(crate) seed: u64,
    pub(crate) database: Database,
    pub(crate) store: Store,
    pub(crate) keyring: String,
    pub(crate) root: String,
    /// What admins prove themselves with to each other.
    pub(crate) peer: String,
    pub(crate) ways: Vec<Way>,
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
        let store = database.answer(made).unwrap();
        let mut clock = |rate: Option<f64>| {
            let rate = rate.unwrap_or_else(|| random.random_range(1.0 - RATE_ERROR..1.0 + RATE_ERROR));
            MachineClock::new(random.random_range(0.0..1e6), rate)
        };
        let admin_rate = (mutant == Mutant::FastAdminClock).then_some(2.0);
        let validator_rate = (mutant == Mutant::SlowClocks).then_some(0.5);
        Arc::new(Self {
            mutant,
            seed,
            ways: (0..ADMINS).map(|_| Way::to(&database)).collect(),
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

    /// Randomness of one part of the simulation, independent of what others use.
    pub(crate) fn random(&self, part: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(1_000_003).wrapping_add(part))
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    /// Notes what happens now.
    pub(crate) fn note(&self, what: &str) {
        self.history().note(time::now(), what);
    }

    /// What validators prove themselves with, once it was issued.
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

    /// Which process of a validator runs.
    pub(crate) fn life(&self, validator: usize) -> u32 {
        self.lives[validator].load(Ordering::Relaxed)
    }

    pub(crate) fn dies(&self, validator: usize) {
        self.lives[validator].fetch_add(1, Ordering::Relaxed);
    }

    /// The mutant: nobody is there, whoever lives.
    pub(crate) fn strike_off_everybody(&self) {
        let store = self.store.clone();
        self.database.answer(async move {
            let undertaker = AdminLife::generate();
            store.register_admin(undertaker, LEASE, None).await.unwrap();
            let pulse = store.heartbeat(undertaker).await.unwrap().unwrap();
            for node in &pulse.nodes {
                store.evict_admin(node).await.unwrap();
            }
        });
    }

    /// A process can be told to leave.
    pub(crate) fn can_be_told(&self, machine: String, trigger: ShutdownTrigger) {
        self.triggers.lock().unwrap().insert(machine, trigger);
    }

    /// Tells a process to leave.
    pub(crate) fn tell_to_leave(&self, machine: &str) {
        if let Some(trigger) = self.triggers.lock().unwrap().get(machine) {
            trigger.leave();
        }
    }
}
