use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{Error, Position, Revision};
use keyward_proto::replica::replica_service_server::ReplicaService;
use keyward_proto::replica::sync_request::Message as Said;
use keyward_proto::replica::sync_response::Message;
use keyward_proto::replica::{DigestKey, Goodbye, Hello, Policy, SnapshotChunk, SyncRequest, SyncResponse, Welcome};
use keyward_replica::SessionId;
use keyward_runtime::shutdown::Shutdown;
use keyward_runtime::status;
use keyward_sync::is_validator_id;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::app::{App, Caller};
use crate::grpc::auth::caller;
use crate::sync::publisher::{Joined, Snapshot, message};
use crate::sync::state::Principal;

/// The version of the protocol that this admin speaks.
const PROTOCOL: u32 = 1;

/// Messages between the session's queue and the connection.
const OUTGOING: usize = 8;

/// How long a validator may take to say Hello.
const HELLO: Duration = Duration::from_secs(3);

/// How long a validator may take to go to another admin when this one leaves.
const MOVE: Duration = Duration::from_secs(3);

/// `ReplicaService`.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaApi {
    pub(crate) app: Arc<App>,
    pub(crate) shutdown: Shutdown,
    /// Whether its validators are other processes, whose leases outlive this one.
    pub(crate) external: bool,
}

type Outgoing = mpsc::Sender<Result<SyncResponse, Status>>;

#[tonic::async_trait]
impl ReplicaService for ReplicaApi {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<SyncResponse, Status>> + Send>>;

    async fn sync(&self, request: Request<Streaming<SyncRequest>>) -> Result<Response<Self::SyncStream>, Status> {
        let caller = self.caller(&request)?;
        let mut incoming = request.into_inner();
        let hello = hello(&mut incoming).await?;
        if self.shutdown.is_leaving() {
            return Err(status::from_error(&Error::shutting_down()));
        }
        if self.external {
            self.app.publisher.expect_external_leases().await.map_err(|e| status::from_error(&e))?;
        }
        let publisher = &self.app.publisher;
        let place = self.place(&hello);
        let continues = match &place {
            Some(place) => publisher.place_of(place).await?,
            None => false,
        };
        let joined = publisher.join(place.as_ref().filter(|_| !hello.snapshot), caller.as_ref().map(Principal::of));
        let joined = joined.ok_or_else(|| status::from_error(&Error::history_loading()))?;
        let session = Session { api: self.clone(), id: joined.id, validator: hello.validator_id, continues };
        tracing::info!(
            session = session.id.0,
            validator = session.validator,
            from = hello.revision,
            snapshot = joined.snapshot.is_some(),
            "a validator joins"
        );
        // What was revoked since the call came in was published before this session was there to be ended by it.
        if let Some(caller) = &caller {
            self.app.look_again(caller).await.map_err(|e| status::from_error(&e))?;
        }
        let (sender, receiver) = mpsc::channel(OUTGOING);
        tokio::spawn(session.run(incoming, joined, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl ReplicaApi {
    /// By whose right a session is to run; the validator of this process needs none.
    fn caller<T>(&self, request: &Request<T>) -> Result<Option<Caller>, Status> {
        if !self.external {
            return Ok(None);
        }
        caller(request).map(Some).map_err(|e| status::from_error(&e))
    }

    /// Where a validator says that it stands, if it has come anywhere. What no admin has told it is nowhere: nobody can have
    /// a history taken for lost by making a place up.
    fn place(&self, hello: &Hello) -> Option<Position> {
        if hello.epoch.is_empty() {
            return None;
        }
        let place = self.app.store.verify_position(&hello.epoch, Revision(hello.revision), &hello.chain);
        if place.is_none() {
            tracing::warn!(validator = hello.validator_id, "a validator names a place that no admin has told it");
        }
        place
    }
}

/// The first message, which must be a Hello of a protocol that we speak.
async fn hello(incoming: &mut Streaming<SyncRequest>) -> Result<Hello, Status> {
    let first = tokio::time::timeout(HELLO, incoming.next()).await;
    let Ok(Some(Ok(SyncRequest { message: Some(Said::Hello(hello)) }))) = first else {
        return Err(violated("a session begins with Hello"));
    };
    if hello.protocol != PROTOCOL {
        return Err(violated(format!(
            "this admin speaks version {PROTOCOL} of the replica protocol, the validator {}",
            hello.protocol
        )));
    }
    if !is_validator_id(&hello.validator_id) {
        return Err(violated("a validator_id is 1 to 64 letters, digits and hyphens"));
    }
    Ok(hello)
}

fn violated(rule: impl Into<String>) -> Status {
    status::from_error(&Error::sync_protocol_violated(rule))
}

/// One validator's session. Dropping it ends it.
struct Session {
    api: ReplicaApi,
    id: SessionId,
    validator: String,
    /// Whether the history goes on from where the validator stands.
    continues: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.api.app.publisher.broke(self.id);
        tracing::info!(session = self.id.0, validator = self.validator, "a validator's session ends");
    }
}

impl Session {
    /// Listens and speaks until one side ends.
    async fn run(self, incoming: Streaming<SyncRequest>, joined: Joined, outgoing: Outgoing) {
        let welcome = self.welcome(&joined);
        let Joined { snapshot, queue, ended, .. } = joined;
        let leave = self.api.shutdown.clone();
        let speak = speak(welcome, snapshot, queue, &outgoing);
        let leaving = async {
            leave.wait().await;
            let goodbye = Goodbye { reason: "the admin is shutting down".to_owned() };
            let _ = outgoing.send_timeout(Ok(message(Message::Goodbye(goodbye))), Duration::from_secs(1)).await;
            // Until it has another admin's lease the validator needs this one's.
            tokio::time::sleep(MOVE).await;
        };
        tokio::select! {
            () = speak => {}
            () = self.listen(incoming) => {}
            () = leaving => {}
            _ = ended => {}
        }
    }

    /// Takes what the validator says, until it leaves or falls silent.
    async fn listen(&self, mut incoming: Streaming<SyncRequest>) {
        let publisher = &self.api.app.publisher;
        // Each renewal is heard of, so so much silence is a connection that nobody holds. Until the first one the
        // validator has nothing to say: it takes its snapshot, and HTTP/2's own keepalive tells whether it lives.
        let mut silence = Duration::MAX;
        loop {
            let said = match tokio::time::timeout(silence, incoming.next()).await {
                Ok(Some(Ok(SyncRequest { message: Some(said) }))) => said,
                // Of a newer version than this admin.
                Ok(Some(Ok(SyncRequest { message: None }))) => continue,
                Ok(None | Some(Err(_))) => return,
                Err(_) => {
                    tracing::warn!(session = self.id.0, validator = self.validator, "a validator has fallen silent");
                    return;
                }
            };
            match said {
                Said::Ack(ack) => publisher.ack(self.id, Revision(ack.revision)),
                Said::Renew(renew) => {
                    silence = publisher.policy().renew_interval() * 4;
                    publisher.renew(self.id, renew.seq, Revision(renew.revision));
                }
                // No validator of this version reports usage.
                Said::Usage(_) => {}
                Said::Goodbye(_) => return publisher.goodbye(self.id),
                Said::Hello(_) => return,
            }
        }
    }

    fn welcome(&self, joined: &Joined) -> Welcome {
        let (secrets, policy) = (&self.api.app.secrets, self.api.app.publisher.policy());
        let keys = secrets.token_keys().iter().map(|k| DigestKey { id: k.id(), key: k.expose().to_vec() });
        let duration = |d: Duration| prost_types::Duration::try_from(d).ok();
        Welcome {
            digest_keys: keys.collect(),
            epoch: joined.epoch.to_string(),
            policy: Some(Policy {
                lease: duration(policy.lease),
                clock_rate_error_ppm: policy.clock_rate_error_ppm,
                clock_margin: duration(policy.clock_margin),
                renew_interval: duration(policy.renew_interval()),
            }),
            snapshot: joined.snapshot.is_some(),
            token_prefix: secrets.format().prefix().to_owned(),
            epoch_accepted: joined.accepted,
            continues: self.continues,
        }
    }
}

/// Says Welcome, the snapshot if there is one, and then whatever is queued, in this order.
async fn speak(
    welcome: Welcome,
    snapshot: Option<Snapshot>,
    mut queue: mpsc::Receiver<SyncResponse>,
    outgoing: &Outgoing,
) {
    if outgoing.send(Ok(message(Message::Welcome(welcome)))).await.is_err() {
        return;
    }
    if let Some(snapshot) = snapshot
        && send_snapshot(snapshot, outgoing).await.is_err()
    {
        return;
    }
    while let Some(next) = queue.recv().await {
        if outgoing.send(Ok(next)).await.is_err() {
            return;
        }
    }
}

async fn send_snapshot(snapshot: Snapshot, outgoing: &Outgoing) -> Result<(), ()> {
    let Snapshot { chunks, revision, chain, withheld } = snapshot;
    for chunk in chunks {
        let keys = chunk.iter().map(|entry| withheld.tell(entry)).collect();
        // Let go of the chunk before waiting: a change to it need then not copy it.
        drop(chunk);
        let part = SnapshotChunk { keys, last: false, revision: revision.0, chain: Vec::new() };
        outgoing.send(Ok(message(Message::SnapshotChunk(part)))).await.map_err(|_| ())?;
    }
    let last = SnapshotChunk { keys: Vec::new(), last: true, revision: revision.0, chain };
    outgoing.send(Ok(message(Message::SnapshotChunk(last)))).await.map_err(|_| ())
}
