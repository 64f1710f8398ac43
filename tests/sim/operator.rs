//! Operators: they change keys.

use std::sync::Arc;
use std::time::Duration;

use keyward_proto::admin::key_service_client::KeyServiceClient;
use keyward_proto::admin::member_service_client::MemberServiceClient;
use keyward_proto::admin::project_service_client::ProjectServiceClient;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::admin::{
    self as proto, ActivateKeyRequest, CreateKeyRequest, CreateMemberRequest, CreateProjectRequest,
    DeactivateKeyRequest, GetKeyRequest, Member, Receipt, Role, key,
};
use keyward_sync::Authorization;
use rand::RngExt;
use rand::rngs::StdRng;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::history::{Attempt, Change, Done, Key, Kind, UNKNOWN_REVISION};
use crate::mutant::Mutant;
use crate::net::{PORT, connector};
use crate::time;
use crate::world::{ADMINS, World};

/// The project of all keys.
const PROJECT: &str = "6666";

/// The number of operators. Each changes one key at a time.
const OPERATORS: u64 = 5;

/// The deadline of most calls: longer than any fence takes.
const PATIENCE: Duration = Duration::from_secs(3);

/// The deadline of an impatient operator.
const IMPATIENCE: Duration = Duration::from_millis(600);

/// No change is begun when less than this time is left.
const LAST: Duration = Duration::from_secs(4);

/// Creates the project and the validators' credential, and runs the operators until `end`.
pub(crate) async fn operate(world: Arc<World>, end: Duration) -> turmoil::Result {
    let admins = Admins::open(&world);
    admins.set_up().await;
    let operators = (0..OPERATORS).map(|number| {
        let (world, admins) = (Arc::clone(&world), admins.clone());
        let random = world.random(100 + number);
        tokio::spawn(Operator { world, admins, random, number, end }.work())
    });
    for operator in operators.collect::<Vec<_>>() {
        operator.await?;
    }
    Ok(())
}

/// Connections to every admin.
#[derive(Clone)]
struct Admins {
    world: Arc<World>,
    endpoints: Vec<Endpoint>,
    authorization: MetadataValue<Ascii>,
    channels: Arc<tokio::sync::Mutex<Vec<Option<Channel>>>>,
}

impl Admins {
    fn open(world: &Arc<World>) -> Self {
        let endpoint = |admin| {
            let endpoint = Endpoint::from_shared(format!("http://admin-{admin}:{PORT}")).unwrap();
            endpoint
                .connect_timeout(Duration::from_millis(500))
                .http2_keep_alive_interval(Duration::from_millis(500))
                .keep_alive_timeout(Duration::from_millis(500))
        };
        Self {
            world: Arc::clone(world),
            endpoints: (0..ADMINS).map(endpoint).collect(),
            authorization: Authorization::fixed(&world.root).unwrap().current(),
            channels: Arc::new(tokio::sync::Mutex::new(vec![None; ADMINS])),
        }
    }

    async fn channel(&self, admin: usize) -> Result<Channel, Status> {
        let mut channels = self.channels.lock().await;
        if let Some(channel) = &channels[admin] {
            return Ok(channel.clone());
        }
        let connector = connector();
        let connected = tokio::time::timeout(Duration::from_millis(500), connector.connect(&self.endpoints[admin]));
        let channel = match connected.await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(Status::unavailable(error.to_string())),
            Err(_) => return Err(Status::unavailable("no connection")),
        };
        channels[admin] = Some(channel.clone());
        Ok(channel)
    }

    fn request<T>(&self, message: T, patience: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request.set_timeout(patience);
        request
    }

    /// Calls an admin, with a deadline. `send` makes the call on a channel to it.
    async fn call<T, R, F>(
        &self,
        admin: usize,
        patience: Duration,
        message: T,
        send: impl FnOnce(Channel, Request<T>) -> F,
    ) -> Result<R, Status>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let request = self.request(message, patience);
        let call = async { send(self.channel(admin).await?, request).await };
        // The server answers a little before the deadline, but nothing arrives from a machine that is cut off.
        let answered = tokio::time::timeout(patience, call).await;
        let answered = answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        answered.map(Response::into_inner)
    }

    /// Creates the project and the credential of the validators.
    async fn set_up(&self) {
        let project = CreateProjectRequest { project_id: PROJECT.to_owned(), ..Default::default() };
        while let Err(status) = self
            .call(0, PATIENCE, project.clone(), |channel, request| async {
                ProjectServiceClient::new(channel).create_project(request).await
            })
            .await
        {
            if status.code() == Code::AlreadyExists {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for attempt in 0.. {
            let role = keyward_tests::client::on_platform(Role::Validator);
            let member = Member { roles: vec![role], ..Default::default() };
            let request = CreateMemberRequest {
                member_id: format!("validators{attempt}"),
                member: Some(member),
                request_id: String::new(),
            };
            let created = self.call(0, PATIENCE, request, |channel, request| async {
                MemberServiceClient::new(channel).create_member(request).await
            });
            if let Ok(created) = created.await {
                self.world.issue_credential(created.credential);
                return;
            }
        }
    }
}

struct Operator {
    world: Arc<World>,
    admins: Admins,
    random: StdRng,
    number: u64,
    end: Duration,
}

impl Operator {
    async fn work(mut self) {
        for round in 0.. {
            if self.pause(0.05..0.3).await.is_none() {
                return;
            }
            let Some(key) = self.create(round).await else { return };
            for _ in 0..self.random.random_range(1..=3) {
                if self.pause(0.05..0.5).await.is_none()
                    || self.change(key, Kind::Deactivate).await.is_none()
                    || self.pause(0.1..0.6).await.is_none()
                    || self.change(key, Kind::Activate).await.is_none()
                {
                    return;
                }
            }
            // The key is finally deactivated and left that way.
            if self.pause(0.05..0.3).await.is_none() || self.change(key, Kind::Deactivate).await.is_none() {
                return;
            }
        }
    }

    /// Returns `None` if too little time is left.
    async fn pause(&mut self, seconds: std::ops::Range<f64>) -> Option<()> {
        let pause = self.random.random_range(seconds);
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
        (time::now() + LAST < self.end).then_some(())
    }

    /// Creates a key, with another name at each attempt, until a call succeeds.
    async fn create(&mut self, round: u32) -> Option<usize> {
        for attempt in 0.. {
            let admin = self.random.random_range(0..ADMINS);
            let begun = time::now();
            let request = CreateKeyRequest {
                parent: format!("projects/{PROJECT}"),
                key_id: format!("key_{}_{round}_{attempt}", self.number),
                key: None,
                request_id: String::new(),
            };
            let created = self.admins.call(admin, PATIENCE, request, |channel, request| async {
                KeyServiceClient::new(channel).create_key(request).await
            });
            match created.await {
                Ok(created) => {
                    let found = created.key.unwrap_or_default();
                    let (name, etag) = (found.name, found.etag);
                    self.world
                        .note(&format!("{name} created by admin-{admin}: {}", describe(created.receipt.as_ref())));
                    let change = Change { kind: Kind::Create, begun, done: Some(done(created.receipt)) };
                    let mut history = self.world.history();
                    history.keys.push(Key { name, token: created.token, etag, changes: vec![change] });
                    return Some(history.keys.len() - 1);
                }
                Err(status) => self.failed("create", admin, &status).await?,
            }
        }
        None
    }

    /// Changes a key, with attempts until a call succeeds.
    async fn change(&mut self, key: usize, kind: Kind) -> Option<()> {
        let (name, etag) = {
            let history = self.world.history();
            (history.keys[key].name.clone(), history.keys[key].etag.clone())
        };
        self.world.history().keys[key].changes.push(Change { kind, begun: time::now(), done: None });
        loop {
            let admin = self.random.random_range(0..ADMINS);
            let patience = if self.random.random_bool(0.2) { IMPATIENCE } else { PATIENCE };
            self.world.note(&format!("{kind:?} {name} at admin-{admin}"));
            let (begun, before) = (time::now(), self.clock_of(admin));
            let outcome = match kind {
                Kind::Activate => self.activate(admin, &name, &etag).await,
                _ => self.deactivate(admin, &name, &etag, patience).await,
            };
            if kind == Kind::Deactivate {
                let elapsed = self.clock_of(admin) - before;
                let waited_out = outcome.as_ref().ok().map(|(_, receipt)| receipt.enforced_by() == EnforcedBy::WaitOut);
                let ended = time::now();
                self.world.history().attempts.push(Attempt { admin, begun, ended, elapsed, patience, waited_out });
            }
            let (found, receipt) = match outcome {
                Ok(answer) => answer,
                Err(status) => {
                    self.failed(&format!("{kind:?} {name}"), admin, &status).await?;
                    match self.trusts_get_key(admin, &name, kind).await {
                        Some(answer) => answer,
                        None => continue,
                    }
                }
            };
            self.world.note(&format!("{kind:?} {name} by admin-{admin}: {}", describe(Some(&receipt))));
            let mut history = self.world.history();
            history.keys[key].etag = found.etag;
            if let Some(change) = history.keys[key].changes.last_mut() {
                change.done = Some(done(Some(receipt)));
            }
            return Some(());
        }
    }

    async fn deactivate(
        &self,
        admin: usize,
        name: &str,
        etag: &str,
        patience: Duration,
    ) -> Result<(proto::Key, Receipt), Status> {
        let request = DeactivateKeyRequest { name: name.to_owned(), etag: etag.to_owned() };
        let call = self.admins.call(admin, patience, request, |channel, request| async {
            KeyServiceClient::new(channel).deactivate_key(request).await
        });
        let answer = call.await?;
        Ok((answer.key.unwrap_or_default(), answer.receipt.unwrap_or_default()))
    }

    async fn activate(&self, admin: usize, name: &str, etag: &str) -> Result<(proto::Key, Receipt), Status> {
        let request = ActivateKeyRequest { name: name.to_owned(), etag: etag.to_owned() };
        let call = self.admins.call(admin, PATIENCE, request, |channel, request| async {
            KeyServiceClient::new(channel).activate_key(request).await
        });
        let answer = call.await?;
        Ok((answer.key.unwrap_or_default(), answer.receipt.unwrap_or_default()))
    }

    /// The mutant: takes a key that GetKey shows as deactivated for the success of the call.
    async fn trusts_get_key(&self, admin: usize, name: &str, kind: Kind) -> Option<(proto::Key, Receipt)> {
        if self.world.mutant != Mutant::TrustsGetKey || kind != Kind::Deactivate {
            return None;
        }
        let request = GetKeyRequest { name: name.to_owned() };
        let call = self.admins.call(admin, PATIENCE, request, |channel, request| async {
            KeyServiceClient::new(channel).get_key(request).await
        });
        let found = call.await.ok()?.key?;
        // The revision is unknown, but the change counts as enforced.
        let unknown =
            Receipt { revision: UNKNOWN_REVISION, enforced_by: EnforcedBy::WaitOut.into(), ..Receipt::default() };
        (found.state() == key::State::Deactivated).then_some((found, unknown))
    }

    /// Records a failed attempt and waits. Returns `None` if it is too late for another.
    async fn failed(&mut self, what: &str, admin: usize, status: &Status) -> Option<()> {
        self.world.note(&format!("{what} at admin-{admin} failed: {:?}", status.code()));
        tokio::time::sleep(Duration::from_millis(self.random.random_range(10..60))).await;
        (time::now() < self.end).then_some(())
    }

    /// Returns the time on an admin's clock, in seconds.
    fn clock_of(&self, admin: usize) -> f64 {
        self.world.admin_clocks[admin].shows(time::now())
    }
}

fn done(receipt: Option<Receipt>) -> Done {
    let receipt = receipt.unwrap_or_default();
    let enforced = !matches!(receipt.enforced_by(), EnforcedBy::Pending | EnforcedBy::Unspecified);
    Done { at: time::now(), revision: receipt.revision, enforced }
}

fn describe(receipt: Option<&Receipt>) -> String {
    receipt.map_or_else(String::new, |receipt| format!("{:?} at {}", receipt.enforced_by(), receipt.revision))
}
