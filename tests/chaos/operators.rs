//! Operators: they create and deactivate keys, and sometimes activate them again, at a random admin, and at the other
//! one when a call fails.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward_proto::admin::key::{Enforcement, State};
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::admin::{
    ActivateKeyRequest, CreateKeyRequest, CreateKeyResponse, DeactivateKeyRequest, GetKeyRequest, Receipt,
    WaitEnforcedRequest,
};
use keyward_tests::client::{Admin, ValidatorClient, request_id};
use tonic::{Request, Status};
use tonic_types::StatusExt;

use crate::clients::validate;
use crate::dice::Dice;
use crate::history::{History, Kind};
use crate::keys::{TrackedKey, name_of};
use crate::run::{Call, Outcome, Run};
use crate::schedule::{ADMINS, VALIDATORS};
use crate::site::PROJECT;

/// The deadline of most calls: longer than any suspension.
const PATIENCE: Duration = Duration::from_secs(20);

/// A deadline that is shorter than a wait-out.
const IMPATIENCE: Duration = Duration::from_millis(800);

/// How long after its deadline a call may still be answered.
const GRACE: Duration = Duration::from_secs(2);

/// How often a change is attempted before the key is left as it is.
const ATTEMPTS: usize = 6;

/// The polling interval.
const POLL: Duration = Duration::from_millis(30);

/// Creates and deactivates keys, one after the other.
pub(crate) struct Operator {
    run: Arc<Run>,
    number: u64,
    dice: Dice,
    admins: Vec<Admin>,
    clients: Vec<ValidatorClient>,
}

/// Awaits a call, but not longer than its deadline and the grace period.
async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Option<Result<T, Status>> {
    tokio::time::timeout(limit + GRACE, call).await.ok()
}

fn with_deadline<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// Returns `true` if the receipt states that the change is enforced.
fn is_enforced(receipt: &Receipt) -> bool {
    matches!(receipt.enforced_by(), EnforcedBy::Acks | EnforcedBy::WaitOut)
}

/// Returns the revision of a change that is committed but not yet enforced.
fn committed_at(status: &Status) -> Option<i64> {
    let info = status.get_details_error_info()?;
    (info.reason == "NOT_YET_ENFORCED").then(|| info.metadata.get("revision")?.parse().ok())?
}

impl Operator {
    /// Connects to every admin and validator.
    pub(crate) async fn connect(run: Arc<Run>, number: u64) -> Self {
        let (mut admins, mut clients) = (Vec::new(), Vec::new());
        for admin in &run.site.admins {
            admins.push(Admin::connect(admin.at, &run.site.root).await);
        }
        for validator in &run.site.validators {
            clients.push(ValidatorClient::connect(validator.at).await);
        }
        Self { dice: Dice::of(run.seed, 1_000 + number), run, number, admins, clients }
    }

    /// Works until the run ends.
    pub(crate) async fn work(mut self) {
        for round in 0.. {
            if self.run.is_over() {
                return;
            }
            self.manage_key(&format!("o{}_{round}", self.number)).await;
        }
    }

    /// Takes one key from its creation to a final deactivation, or to a change of unknown outcome.
    async fn manage_key(&mut self, key_id: &str) {
        let Some(key) = self.create(key_id).await else { return };
        self.run.keys.add(Arc::clone(&key));
        loop {
            self.until_valid(&key).await;
            self.pause(800).await;
            if !self.deactivate(&key).await {
                return;
            }
            self.pause(1_500).await;
            if self.dice.index(4) > 0 || !self.activate(&key).await {
                return;
            }
        }
    }

    async fn pause(&mut self, longest: u64) {
        tokio::time::sleep(Duration::from_millis(self.dice.between(0, longest))).await;
    }

    /// Creates a key with the same request id at each attempt.
    async fn create(&mut self, key_id: &str) -> Option<Arc<TrackedKey>> {
        let (mut history, mut admin) = (History::default(), self.dice.index(ADMINS));
        let call = history.begin(Kind::Create, Instant::now());
        let request = CreateKeyRequest {
            parent: format!("projects/{PROJECT}"),
            key_id: key_id.to_owned(),
            key: None,
            request_id: request_id(),
        };
        for _ in 0..ATTEMPTS {
            let mut keys = self.admins[admin].keys.clone();
            match within(PATIENCE, keys.create_key(with_deadline(request.clone(), PATIENCE))).await {
                Some(Ok(made)) => {
                    let CreateKeyResponse { token, receipt, .. } = made.into_inner();
                    let (receipt, now) = (receipt.unwrap(), Instant::now());
                    history.committed(call, receipt.revision, now);
                    if is_enforced(&receipt) {
                        history.enforced(call, now);
                    }
                    return Some(Arc::new(TrackedKey { name: name_of(key_id), token, history: Mutex::new(history) }));
                }
                Some(Err(status)) => self.run.failed(admin, "create", &status),
                None => {}
            }
            admin = (admin + 1) % ADMINS;
            self.pause(200).await;
        }
        None
    }

    /// Validates the key at random validators until it is accepted. Gives up after a while, because validators may be
    /// down.
    async fn until_valid(&mut self, key: &TrackedKey) {
        for _ in 0..100 {
            let validator = self.dice.index(VALIDATORS);
            let validation = validate(&self.run, validator, &self.clients[validator], key);
            if matches!(tokio::time::timeout(POLL * 10, validation).await, Ok(true)) {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Deactivates a key, with attempts at both admins until it is enforced. Returns `true` if it is.
    async fn deactivate(&mut self, key: &TrackedKey) -> bool {
        let mut admin = self.dice.index(ADMINS);
        for attempt in 0..ATTEMPTS {
            let call = key.begin(Kind::Deactivate);
            let limit = if self.dice.index(5) == 0 { IMPATIENCE } else { PATIENCE };
            let outcome = self.deactivate_at(admin, key, call, limit).await;
            match outcome {
                Outcome::Enforced(_) => {
                    if attempt > 0 {
                        self.run.tally.repeated.one();
                    }
                    return true;
                }
                Outcome::Committed(revision) if self.wait_on(key, call, revision).await => return true,
                _ if self.run.is_over() => return false,
                _ => self.pause(200).await,
            }
            admin = (admin + 1) % ADMINS;
        }
        false
    }

    async fn deactivate_at(&self, admin: usize, key: &TrackedKey, call: usize, limit: Duration) -> Outcome {
        let (tally, name, invoked) = (&self.run.tally, key.name.clone(), Instant::now());
        let request = DeactivateKeyRequest { name: name.clone(), etag: String::new() };
        let mut keys = self.admins[admin].keys.clone();
        let response = within(limit, keys.deactivate_key(with_deadline(request, limit))).await;
        let returned = Instant::now();
        let outcome = match response {
            Some(Ok(response)) => {
                let receipt = response.into_inner().receipt.unwrap();
                key.committed(call, receipt.revision);
                key.enforced(call);
                tally.deactivated.one();
                if receipt.enforced_by() == EnforcedBy::Acks {
                    tally.by_acks.one();
                } else {
                    tally.by_wait_out.one();
                }
                assert!(is_enforced(&receipt), "{receipt:?}");
                Outcome::Enforced(receipt.revision)
            }
            Some(Err(status)) => match committed_at(&status) {
                Some(revision) => {
                    key.committed(call, revision);
                    tally.not_yet.one();
                    Outcome::Committed(revision)
                }
                None => {
                    self.run.failed(admin, "deactivate", &status);
                    tally.unknown.one();
                    Outcome::Unknown
                }
            },
            None => Outcome::Hung,
        };
        if limit == PATIENCE {
            let (run, call) = (Arc::clone(&self.run), Call { admin, name, invoked, returned, outcome });
            tokio::spawn(async move { run.check_duration(call).await });
        }
        outcome
    }

    /// Waits until a committed deactivation is enforced, by WaitEnforced, by GetKey, or not at all, so that the caller
    /// repeats the call. Returns `true` if it is enforced.
    async fn wait_on(&mut self, key: &TrackedKey, call: usize, revision: i64) -> bool {
        let admin = self.dice.index(ADMINS);
        let enforced = match self.dice.index(3) {
            0 => self.wait_enforced(admin, revision).await,
            1 => self.until_shown_enforced(admin, key, revision).await,
            _ => false,
        };
        if enforced {
            key.enforced(call);
            self.run.tally.waited_on.one();
        }
        enforced
    }

    async fn wait_enforced(&self, admin: usize, revision: i64) -> bool {
        let mut keys = self.admins[admin].keys.clone();
        let request = with_deadline(WaitEnforcedRequest { revision }, PATIENCE);
        match within(PATIENCE, keys.wait_enforced(request)).await {
            Some(Ok(response)) => response.into_inner().receipt.is_some_and(|receipt| is_enforced(&receipt)),
            Some(Err(status)) => {
                self.run.failed(admin, "wait", &status);
                false
            }
            None => false,
        }
    }

    /// Polls GetKey, as a dashboard does.
    async fn until_shown_enforced(&self, admin: usize, key: &TrackedKey, revision: i64) -> bool {
        for _ in 0..100 {
            let mut keys = self.admins[admin].keys.clone();
            let request = with_deadline(GetKeyRequest { name: key.name.clone() }, PATIENCE);
            let Some(Ok(response)) = within(PATIENCE, keys.get_key(request)).await else { return false };
            let shown = response.into_inner().key.unwrap();
            if shown.revision != revision || shown.state() != State::Deactivated {
                return false;
            }
            if shown.enforcement() == Enforcement::Enforced {
                return true;
            }
            tokio::time::sleep(POLL).await;
        }
        false
    }

    /// Activates a key, in one attempt. Returns `true` if it is known to be active.
    async fn activate(&mut self, key: &TrackedKey) -> bool {
        let admin = self.dice.index(ADMINS);
        let call = key.begin(Kind::Activate);
        let request = ActivateKeyRequest { name: key.name.clone(), etag: String::new() };
        let mut keys = self.admins[admin].keys.clone();
        match within(PATIENCE, keys.activate_key(with_deadline(request, PATIENCE))).await {
            Some(Ok(response)) => {
                let receipt = response.into_inner().receipt.unwrap();
                key.committed(call, receipt.revision);
                if is_enforced(&receipt) {
                    key.enforced(call);
                }
                self.run.tally.activated.one();
                true
            }
            Some(Err(status)) => {
                self.run.failed(admin, "activate", &status);
                false
            }
            None => false,
        }
    }
}
