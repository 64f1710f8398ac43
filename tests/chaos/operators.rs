//! Makes keys, ends them, and now and then takes that back; at whichever admin, and at the other one when that fails.

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

use crate::clients::ask;
use crate::crowd::{Subject, name_of};
use crate::dice::Dice;
use crate::history::{Deed, History};
use crate::run::{Call, Outcome, Run};
use crate::schedule::{ADMINS, VALIDATORS};
use crate::site::PROJECT;

/// How long most calls may take by their own deadline: longer than any stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A deadline that is too short for a wait-out.
const IMPATIENCE: Duration = Duration::from_millis(800);

/// How long after its deadline a call may still be answered.
const GRACE: Duration = Duration::from_secs(2);

/// How often a change is tried, here and there, before the key is left as it is.
const TRIES: usize = 6;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(30);

/// Makes and ends keys, one after the other.
pub(crate) struct Operator {
    run: Arc<Run>,
    number: u64,
    dice: Dice,
    admins: Vec<Admin>,
    clients: Vec<ValidatorClient>,
}

/// A call with a deadline, after which nothing is waited for.
async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Option<Result<T, Status>> {
    tokio::time::timeout(limit + GRACE, call).await.ok()
}

fn with_deadline<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// Whether a receipt says that every validator answers from that change on.
fn is_enforced(receipt: &Receipt) -> bool {
    matches!(receipt.enforced_by(), EnforcedBy::Acks | EnforcedBy::WaitOut)
}

/// The revision at which something is committed and not yet enforced.
fn committed_at(status: &Status) -> Option<i64> {
    let info = status.get_details_error_info()?;
    (info.reason == "NOT_YET_ENFORCED").then(|| info.metadata.get("revision")?.parse().ok())?
}

impl Operator {
    /// Connects to everything.
    pub(crate) async fn hire(run: Arc<Run>, number: u64) -> Self {
        let (mut admins, mut clients) = (Vec::new(), Vec::new());
        for admin in &run.site.admins {
            admins.push(Admin::connect(admin.at, &run.site.root).await);
        }
        for validator in &run.site.validators {
            clients.push(ValidatorClient::connect(validator.at).await);
        }
        Self { dice: Dice::of(run.seed, 1_000 + number), run, number, admins, clients }
    }

    /// Works until the run is over.
    pub(crate) async fn work(mut self) {
        for round in 0.. {
            if self.run.is_over() {
                return;
            }
            self.see_through(&format!("o{}_{round}", self.number)).await;
        }
    }

    /// A key from its creation to an end that holds; or to a change of unknown outcome, after which little can be said.
    async fn see_through(&mut self, key_id: &str) {
        let Some(subject) = self.create(key_id).await else { return };
        self.run.crowd.add(Arc::clone(&subject));
        loop {
            self.until_valid(&subject).await;
            self.pause(800).await;
            if !self.deactivate(&subject).await {
                return;
            }
            self.pause(1_500).await;
            if self.dice.place(4) > 0 || !self.activate(&subject).await {
                return;
            }
        }
    }

    async fn pause(&mut self, longest: u64) {
        tokio::time::sleep(Duration::from_millis(self.dice.between(0, longest))).await;
    }

    /// Creates a key, by the same request at either admin.
    async fn create(&mut self, key_id: &str) -> Option<Arc<Subject>> {
        let (mut history, mut admin) = (History::default(), self.dice.place(ADMINS));
        let call = history.begin(Deed::Create, Instant::now());
        let request = CreateKeyRequest {
            parent: format!("projects/{PROJECT}"),
            key_id: key_id.to_owned(),
            key: None,
            request_id: request_id(),
        };
        for _ in 0..TRIES {
            let mut keys = self.admins[admin].keys.clone();
            match within(PATIENCE, keys.create_key(with_deadline(request.clone(), PATIENCE))).await {
                Some(Ok(made)) => {
                    let CreateKeyResponse { token, receipt, .. } = made.into_inner();
                    let (receipt, now) = (receipt.unwrap(), Instant::now());
                    history.committed(call, receipt.revision, now);
                    if is_enforced(&receipt) {
                        history.enforced(call, now);
                    }
                    return Some(Arc::new(Subject { name: name_of(key_id), token, history: Mutex::new(history) }));
                }
                Some(Err(status)) => self.run.failed(admin, "create", &status),
                None => {}
            }
            admin = (admin + 1) % ADMINS;
            self.pause(200).await;
        }
        None
    }

    /// Asks here and there until the key is accepted; not for ever, for validators may be down.
    async fn until_valid(&mut self, subject: &Subject) {
        for _ in 0..100 {
            let validator = self.dice.place(VALIDATORS);
            let asked = ask(&self.run, validator, &self.clients[validator], subject);
            if matches!(tokio::time::timeout(LOOK * 10, asked).await, Ok(true)) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Deactivates a key, at either admin until it is enforced. Whether it is.
    async fn deactivate(&mut self, subject: &Subject) -> bool {
        let mut admin = self.dice.place(ADMINS);
        for attempt in 0..TRIES {
            let call = subject.begin(Deed::Deactivate);
            let limit = if self.dice.place(5) == 0 { IMPATIENCE } else { PATIENCE };
            let outcome = self.deactivate_at(admin, subject, call, limit).await;
            match outcome {
                Outcome::Enforced(_) => {
                    if attempt > 0 {
                        self.run.tally.repeated.one();
                    }
                    return true;
                }
                Outcome::Committed(revision) if self.wait_on(subject, call, revision).await => return true,
                _ if self.run.is_over() => return false,
                _ => self.pause(200).await,
            }
            admin = (admin + 1) % ADMINS;
        }
        false
    }

    async fn deactivate_at(&self, admin: usize, subject: &Subject, call: usize, limit: Duration) -> Outcome {
        let (tally, name, invoked) = (&self.run.tally, subject.name.clone(), Instant::now());
        let request = DeactivateKeyRequest { name: name.clone(), etag: String::new() };
        let mut keys = self.admins[admin].keys.clone();
        let said = within(limit, keys.deactivate_key(with_deadline(request, limit))).await;
        let returned = Instant::now();
        let outcome = match said {
            Some(Ok(response)) => {
                let receipt = response.into_inner().receipt.unwrap();
                subject.committed(call, receipt.revision);
                subject.enforced(call);
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
                    subject.committed(call, revision);
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
            tokio::spawn(async move { run.hold_to_its_time(call).await });
        }
        outcome
    }

    /// Waits on for what is committed, in one of the ways that there are; one of them is to call again. Whether it is
    /// enforced.
    async fn wait_on(&mut self, subject: &Subject, call: usize, revision: i64) -> bool {
        let admin = self.dice.place(ADMINS);
        let enforced = match self.dice.place(3) {
            0 => self.wait_enforced(admin, revision).await,
            1 => self.until_shown_enforced(admin, subject, revision).await,
            _ => false,
        };
        if enforced {
            subject.enforced(call);
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

    /// As a dashboard does it.
    async fn until_shown_enforced(&self, admin: usize, subject: &Subject, revision: i64) -> bool {
        for _ in 0..100 {
            let mut keys = self.admins[admin].keys.clone();
            let request = with_deadline(GetKeyRequest { name: subject.name.clone() }, PATIENCE);
            let Some(Ok(response)) = within(PATIENCE, keys.get_key(request)).await else { return false };
            let key = response.into_inner().key.unwrap();
            if key.revision != revision || key.state() != State::Deactivated {
                return false;
            }
            if key.enforcement() == Enforcement::Enforced {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// Activates a key, once. Whether it is known to be active.
    async fn activate(&mut self, subject: &Subject) -> bool {
        let admin = self.dice.place(ADMINS);
        let call = subject.begin(Deed::Activate);
        let request = ActivateKeyRequest { name: subject.name.clone(), etag: String::new() };
        let mut keys = self.admins[admin].keys.clone();
        match within(PATIENCE, keys.activate_key(with_deadline(request, PATIENCE))).await {
            Some(Ok(response)) => {
                let receipt = response.into_inner().receipt.unwrap();
                subject.committed(call, receipt.revision);
                if is_enforced(&receipt) {
                    subject.enforced(call);
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
