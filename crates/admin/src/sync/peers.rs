//! Asking the admins that share the database how their validators stand, so that nobody has to wait for leases to run out
//! while everybody is well. Nothing but speed rests on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Position, Remote, Revision};
use keyward_proto::replica::peer_service_client::PeerServiceClient;
use keyward_proto::replica::{BarrierRequest, HintRequest};
use keyward_replica::Cleared;
use keyward_runtime::config::{Listen, check_remote, remote};
use keyward_runtime::secret_file::rereader;
use keyward_sync::{Authorization, Connector, lazy_channel};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// How long to wait before asking again one that could not be reached.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How long one call may take; a fence that takes longer asks anew, for the connection may be dead.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a hint may take to arrive; later it is of no use.
const HINT: Duration = Duration::from_secs(1);

/// How an admin reaches the others that share its database, and they it.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// URL at which others reach this one.
    advertise: Remote,
    /// The credential of a member with role admin_node.
    authorization: Authorization,
    /// Whether it may be sent beyond this machine in plaintext.
    insecure_plaintext: bool,
    /// How to get there.
    connector: Connector,
}

impl PeerOptions {
    /// `advertise`: URL at which the others reach this one, as `http://10.0.0.1:8510`; port 0 stands for the one that it
    /// listens on. `credential`: of a member with role admin_node. `insecure_plaintext`: allows to send that beyond this machine
    /// in plaintext.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn new(advertise: &str, credential: &str, insecure_plaintext: bool) -> Result<Self, String> {
        let authorization = Authorization::fixed(credential).map_err(|fault| format!("the peer credential {fault}"))?;
        Self::with(advertise, authorization, insecure_plaintext)
    }

    /// The same with the credential in a file, which is read again when another admin refuses the credential.
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

    /// The same by another way than TCP.
    #[must_use]
    pub fn by(self, connector: Connector) -> Self {
        Self { connector, ..self }
    }

    /// The same where port 0 is the port of `listen`.
    #[must_use]
    pub fn listening_on(mut self, listen: &Listen) -> Self {
        if let (0, Listen::Tcp(at)) = (self.advertise.port(), listen) {
            self.advertise = self.advertise.with_port(at.port());
        }
        self
    }
}

/// The others, as this admin asks them.
#[derive(Debug)]
pub(super) struct Peers {
    options: PeerOptions,
    /// Connections to lives that are listed.
    channels: Mutex<BTreeMap<AdminLife, Channel>>,
}

/// What one fence asks: each life once, until it answers.
#[derive(Debug, Default)]
pub(super) struct Asking {
    asked: BTreeSet<AdminLife>,
    answers: JoinSet<(AdminLife, Option<Cleared>)>,
}

impl Peers {
    pub(super) fn new(options: PeerOptions) -> Self {
        Self { options, channels: Mutex::default() }
    }

    /// What others find this one by.
    pub(super) fn address(&self) -> String {
        self.options.advertise.to_string()
    }

    /// Asks each of `others` that was not asked before, in the background.
    pub(super) fn ask(&self, asking: &mut Asking, others: &[AdminNode], place: &Position) {
        for node in others {
            if asking.asked.contains(&node.life) {
                continue;
            }
            let Some(client) = self.client(node) else { continue };
            asking.asked.insert(node.life);
            let (life, authorization) = (node.life, self.options.authorization.clone());
            let question = BarrierRequest {
                incarnation: life.as_bytes().to_vec(),
                epoch: place.epoch.to_string(),
                revision: place.revision.0,
                chain: place.chain.to_vec(),
            };
            asking.answers.spawn(async move { (life, barrier(client, &authorization, question).await) });
        }
    }

    /// Tells each of `others` that the log has grown, in the background.
    pub(super) fn hint(&self, others: &[AdminNode], revision: Revision) {
        for node in others {
            let Some(mut client) = self.client(node) else { continue };
            let authorization = self.options.authorization.clone();
            tokio::spawn(async move {
                let request = authorized(HintRequest { revision: revision.0 }, &authorization);
                // An admin that does not hear it finds out with its next heartbeat.
                if let Ok(Err(status)) = tokio::time::timeout(HINT, client.hint(request)).await {
                    after_refusal(&status, &authorization).await;
                }
            });
        }
    }

    /// Lets go of connections to lives that are listed no more.
    pub(super) fn retain(&self, listed: &[AdminNode]) {
        self.channels().retain(|life, _| listed.iter().any(|node| node.life == *life));
    }

    /// `None`: it does not say where it is, or is where the credential must not go.
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
        // A connection more or less does no harm.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    /// The next answer; never, if nobody has been asked. Cancel safe.
    pub(super) async fn next(&mut self) -> (AdminLife, Option<Cleared>) {
        loop {
            match self.answers.join_next().await {
                Some(Ok(answer)) => return answer,
                // A question that broke is one without an answer.
                Some(Err(_)) => {}
                None => return std::future::pending().await,
            }
        }
    }

    /// Whether somebody may still answer.
    pub(super) fn is_open(&self) -> bool {
        !self.answers.is_empty()
    }
}

/// Asks until there is an answer. `None`: it will not have one.
async fn barrier(
    mut client: PeerServiceClient<Channel>,
    authorization: &Authorization,
    question: BarrierRequest,
) -> Option<Cleared> {
    loop {
        let mut request = authorized(question.clone(), authorization);
        request.set_timeout(ANSWER);
        match tokio::time::timeout(ANSWER, client.barrier(request)).await {
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
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Reads the credential again if another admin does not know it: it may have been rotated.
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
