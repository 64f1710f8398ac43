//! Asks the other admins over the database whether their validators have applied a change, so that a fence need not wait for
//! leases to expire while every admin is healthy. Only speed depends on it. Also asks an admin without heartbeats in this
//! database if another server answers its heartbeats.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Position, Remote, Revision};
use keyward_proto::replica::peer_service_client::PeerServiceClient;
use keyward_proto::replica::{BarrierRequest, GetHeartbeatRequest, HintRequest};
use keyward_protocol::Instant;
use keyward_protocol::admin::{Cleared, Event};
use keyward_runtime::config::{Listen, check_remote, remote};
use keyward_runtime::secret_file::rereader;
use keyward_sync::{Authorization, Connector, lazy_channel};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// The wait before a peer that could not be reached is asked again.
const RETRY: Duration = Duration::from_millis(100);

/// The time limit of one call. A fence that takes longer asks again, because the connection may be dead.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit of a notification; a later one is of no use.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// How the admins over one database reach each other.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// URL at which others reach this one.
    advertise: Remote,
    /// The credential of a member with role admin_node.
    authorization: Authorization,
    /// `true` if the credential may be sent beyond this machine in plaintext.
    insecure_plaintext: bool,
    /// How connections are made.
    connector: Connector,
}

impl PeerOptions {
    /// `advertise`: URL at which the others reach this admin, such as `http://10.0.0.1:8510`; port 0 stands for the port that it
    /// listens on. `credential`: of a member with role admin_node. `insecure_plaintext`: allows the credential to be sent beyond
    /// this machine in plaintext.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn new(advertise: &str, credential: &str, insecure_plaintext: bool) -> Result<Self, String> {
        let authorization = Authorization::fixed(credential).map_err(|fault| format!("the peer credential {fault}"))?;
        Self::with(advertise, authorization, insecure_plaintext)
    }

    /// Options with the credential in a file, which is read again when another admin refuses the credential; see
    /// [`PeerOptions::new`].
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn with_credential_file(advertise: &str, file: &Path, insecure_plaintext: bool) -> Result<Self, String> {
        let authorization = Authorization::read_by(&file.display().to_string(), rereader(file))?;
        Self::with(advertise, authorization, insecure_plaintext)
    }

    fn with(advertise: &str, authorization: Authorization, insecure_plaintext: bool) -> Result<Self, String> {
        let advertise = Remote::advertised(advertise).map_err(|fault| format!("--advertise: {fault}"))?;
        check_remote(&advertise, insecure_plaintext).map_err(|fault| format!("--advertise: {fault}"))?;
        Ok(Self { advertise, authorization, insecure_plaintext, connector: Connector::default() })
    }

    /// Uses other connections than TCP.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn by(self, connector: Connector) -> Self {
        Self { connector, ..self }
    }

    /// Replaces port 0 by the port of `listen`.
    #[must_use]
    pub fn listening_on(mut self, listen: &Listen) -> Self {
        if let (0, Listen::Tcp(at)) = (self.advertise.port(), listen) {
            self.advertise = self.advertise.with_port(at.port());
        }
        self
    }
}

/// The connections to the other admins.
#[derive(Debug)]
pub(super) struct Peers {
    options: PeerOptions,
    /// The channels, by the admin life that they lead to.
    channels: Mutex<BTreeMap<AdminLife, Channel>>,
}

/// The queries of one fence: one for each life, repeated until it answers.
#[derive(Debug, Default)]
pub(super) struct Queries {
    asked: BTreeSet<AdminLife>,
    answers: JoinSet<(AdminLife, Option<Cleared>)>,
}

/// The questions for heartbeats that peers have not answered yet: at most one for each life.
#[derive(Debug, Default)]
pub(super) struct Questions {
    asked: BTreeSet<AdminLife>,
    answers: JoinSet<Event>,
}

impl Questions {
    /// The next answer, as an event. Never resolves if no question is open. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            match self.answers.join_next().await {
                Some(Ok(answer)) => {
                    if let Event::PeerHeartbeat { life, .. } = &answer {
                        self.asked.remove(life);
                    }
                    return answer;
                }
                // A question that panicked has no answer. Which one it was is not known, so each may be asked again.
                Some(Err(_)) => self.asked.clear(),
                None => return std::future::pending().await,
            }
        }
    }
}

impl Peers {
    pub(super) fn new(options: PeerOptions) -> Self {
        Self { options, channels: Mutex::default() }
    }

    /// The URL at which the others reach this admin.
    pub(super) fn address(&self) -> String {
        self.options.advertise.to_string()
    }

    /// Asks each of `peers` that was not asked before, in the background.
    pub(super) fn ask(&self, queries: &mut Queries, peers: &[AdminNode], position: &Position) {
        for node in peers {
            if queries.asked.contains(&node.life) {
                continue;
            }
            let Some(client) = self.client(node) else { continue };
            queries.asked.insert(node.life);
            let (life, authorization) = (node.life, self.options.authorization.clone());
            let request = BarrierRequest {
                incarnation: life.as_bytes().to_vec(),
                epoch: position.epoch.to_string(),
                revision: position.revision.0,
                chain: position.chain.to_vec(),
            };
            queries.answers.spawn(async move { (life, barrier(client, &authorization, request).await) });
        }
    }

    /// Notifies each of `peers` that the log has grown, in the background.
    pub(super) fn notify(&self, peers: &[AdminNode], revision: Revision) {
        for node in peers {
            let Some(mut client) = self.client(node) else { continue };
            let authorization = self.options.authorization.clone();
            tokio::spawn(async move {
                let request = authorized(HintRequest { revision: revision.0 }, &authorization);
                // A peer that is not notified finds the change with its next heartbeat.
                if let Ok(Err(status)) = tokio::time::timeout(NOTIFY_TIMEOUT, client.hint(request)).await {
                    after_refusal(&status, &authorization).await;
                }
            });
        }
    }

    /// Asks a peer, in the background, for its newest answered heartbeat, for `limit` at most, unless the question before is
    /// still open. `asked`: this admin's clock. Returns `false` if the peer cannot be asked.
    pub(super) fn ask_heartbeat(
        &self,
        questions: &mut Questions,
        node: &AdminNode,
        asked: Instant,
        limit: Duration,
    ) -> bool {
        let Some(mut client) = self.client(node) else { return false };
        if !questions.asked.insert(node.life) {
            return true;
        }
        let (life, authorization) = (node.life, self.options.authorization.clone());
        questions.answers.spawn(async move {
            let request = GetHeartbeatRequest { incarnation: life.as_bytes().to_vec() };
            let answer = tokio::time::timeout(limit, client.get_heartbeat(authorized(request, &authorization)));
            let age = match answer.await {
                Ok(Ok(answer)) => answer.into_inner().age.and_then(|age| age.try_into().ok()),
                Ok(Err(refused)) => {
                    after_refusal(&refused, &authorization).await;
                    None
                }
                Err(_) => None,
            };
            Event::PeerHeartbeat { life, asked, age }
        });
        true
    }

    /// Drops connections to lives that are not listed any more.
    pub(super) fn retain(&self, listed: &[AdminNode]) {
        self.channels().retain(|life, _| listed.iter().any(|node| node.life == *life));
    }

    /// The client of a peer; `None` if the peer publishes no address, or one that the credential must not be sent to.
    fn client(&self, node: &AdminNode) -> Option<PeerServiceClient<Channel>> {
        let mut channels = self.channels();
        if let Some(channel) = channels.get(&node.life) {
            return Some(PeerServiceClient::new(channel.clone()));
        }
        let made = remote(node.address.as_deref()?, self.options.insecure_plaintext)
            .and_then(|admin| lazy_channel(&admin, &self.options.connector).map_err(|error| error.to_string()));
        match made {
            Ok(channel) => {
                channels.insert(node.life, channel.clone());
                Some(PeerServiceClient::new(channel))
            }
            Err(fault) => {
                tracing::debug!(fault, "another admin is not asked: the address that it published cannot be used");
                None
            }
        }
    }

    fn channels(&self) -> std::sync::MutexGuard<'_, BTreeMap<AdminLife, Channel>> {
        // The map is only a cache.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queries {
    /// The next answer. Never resolves if no query is open. Cancel safe.
    pub(super) async fn next(&mut self) -> (AdminLife, Option<Cleared>) {
        loop {
            match self.answers.join_next().await {
                Some(Ok(answer)) => return answer,
                // A query that panicked has no answer.
                Some(Err(_)) => {}
                None => return std::future::pending().await,
            }
        }
    }

    /// Returns `true` if a peer may still answer.
    pub(super) fn are_open(&self) -> bool {
        !self.answers.is_empty()
    }
}

/// Repeats a query until it is answered; `None` if the peer cannot answer it.
async fn barrier(
    mut client: PeerServiceClient<Channel>,
    authorization: &Authorization,
    query: BarrierRequest,
) -> Option<Cleared> {
    loop {
        let mut request = authorized(query.clone(), authorization);
        request.set_timeout(CALL_TIMEOUT);
        match tokio::time::timeout(CALL_TIMEOUT, client.barrier(request)).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                let (acked, lapsed) = (answer.validators_acked as usize, answer.validators_lapsed as usize);
                return answer.cleared.then_some(Cleared { acked, lapsed });
            }
            Ok(Err(status)) => {
                tracing::debug!(code = ?status.code(), "another admin does not answer");
                after_refusal(&status, authorization).await;
            }
            Err(_) => tracing::debug!("another admin does not answer in time"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Reads the credential again if a peer does not accept it: it may have been rotated.
async fn after_refusal(status: &Status, authorization: &Authorization) {
    if status.code() == Code::Unauthenticated {
        authorization.read_again().await;
    }
}

fn authorized<T>(message: T, authorization: &Authorization) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", authorization.current());
    request
}
