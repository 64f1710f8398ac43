use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{Error, MemberId, Position, Revision, WithheldToken};
use keyward_proto::replica::replica_service_server::ReplicaService;
use keyward_proto::replica::sync_request::Message as Incoming;
use keyward_proto::replica::sync_response::Message;
use keyward_proto::replica::{DigestKey, Goodbye, Hello, Policy, SnapshotChunk, SyncRequest, SyncResponse, Welcome};
use keyward_protocol::admin::{Event, Pace, SessionId};
use keyward_runtime::shutdown::Shutdown;
use keyward_runtime::status;
use keyward_sync::{is_validator_id, wire};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::app::App;
use crate::auth::{Caller, caller_of};
use crate::sync::feed::{Principal, Session, Snapshot, response};
use crate::sync::publisher::ValidatorKey;

/// The version of the replica protocol that this admin speaks.
const PROTOCOL: u32 = 1;

/// Messages between the session's queue and the connection.
const OUTGOING: usize = 8;

/// The time limit for the Hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);

/// The most reports of one session that may wait for the database: a million tokens.
const MAX_REPORTS: usize = 2_000;

/// How long to wait before a report that could not be recorded is tried again.
const REPORT_AGAIN: Duration = Duration::from_secs(1);

/// How long a validator has to move to another admin when this one shuts down.
const MOVE_TIMEOUT: Duration = Duration::from_secs(3);

/// `ReplicaService`.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaApi {
    pub(crate) app: Arc<App>,
    pub(crate) shutdown: Shutdown,
    /// `true` if its validators are other processes, whose leases outlive this process.
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
        let validator = (caller.as_ref().map(|caller| caller.id.clone()), hello.validator_id.clone());
        let rest = self.app.publisher.rest(&validator);
        if !rest.is_zero() {
            return Err(behind(rest));
        }
        if self.external {
            self.app.publisher.record_external_leases().await.map_err(|e| status::from_error(&e))?;
        }
        let publisher = &self.app.publisher;
        let position = self.position(&hello);
        let continues = match &position {
            Some(position) => publisher.admit(position).await.map_err(|e| status::from_error(&e))?,
            None => false,
        };
        let from = position.as_ref().filter(|_| !hello.snapshot);
        let joined = publisher.join(from, caller.as_ref().map(Principal::of));
        // While the admin is in doubt about its history, it is about to load the database again, or is loading it.
        let joined = joined.map_err(|_| status::from_error(&Error::history_loading()))?;
        let session = ValidatorStream { api: self.clone(), id: joined.id, validator, continues };
        tracing::info!(
            session = session.id.0,
            validator = session.validator.1,
            from = hello.revision,
            snapshot = joined.snapshot.is_some(),
            "a validator joins"
        );
        // A right that was revoked since the call was authenticated may have been published before this session could be ended.
        if let Some(caller) = &caller {
            self.app.refresh(caller).await.map_err(|e| status::from_error(&e))?;
        }
        let (sender, receiver) = mpsc::channel(OUTGOING);
        tokio::spawn(session.run(incoming, joined, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl ReplicaApi {
    /// The member that a session is authenticated by; `None` for the validator in this process.
    fn caller<T>(&self, request: &Request<T>) -> Result<Option<Caller>, Status> {
        if !self.external {
            return Ok(None);
        }
        caller_of(request).map(Some).map_err(|e| status::from_error(&e))
    }

    /// The position of a validator; `None` if it has none, or if no admin has signed it. An unsigned position is ignored, so that
    /// a made-up one cannot make the database appear to have lost changes.
    fn position(&self, hello: &Hello) -> Option<Position> {
        if hello.epoch.is_empty() {
            return None;
        }
        let position = self.app.store.verify_position(&hello.epoch, Revision(hello.revision), &hello.chain);
        if position.is_none() {
            tracing::warn!(validator = hello.validator_id, "a validator names a position that no admin has signed");
        }
        position
    }
}

/// Reads the first message, which must be a Hello of the protocol version that this admin speaks.
async fn hello(incoming: &mut Streaming<SyncRequest>) -> Result<Hello, Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.next()).await;
    let hello = match first {
        Ok(Some(Ok(SyncRequest { message: Some(Incoming::Hello(hello)) }))) => hello,
        Ok(Some(Err(unreadable))) => return Err(unreadable),
        _ => return Err(violated("a session begins with Hello")),
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

/// The status of a validator that stayed behind. `rest`: how long it has to wait for its next session.
fn behind(rest: Duration) -> Status {
    let rule = "a validator that renews applies each change within half of a lease, or 2 s, and this one did not";
    violated(if rest.is_zero() {
        format!("{rule}; it may reconnect")
    } else {
        format!("{rule}, repeatedly; it may reconnect in {} s", rest.as_millis().div_ceil(1_000))
    })
}

/// The stream of one validator. The session ends when this value is dropped.
struct ValidatorStream {
    api: ReplicaApi,
    id: SessionId,
    validator: ValidatorKey,
    /// `true` if the history contains the position of the Hello.
    continues: bool,
}

impl Drop for ValidatorStream {
    fn drop(&mut self) {
        self.api.app.publisher.break_stream(self.id);
        tracing::info!(session = self.id.0, validator = self.validator.1, "a validator's session ends");
    }
}

impl ValidatorStream {
    /// Sends and receives until one side ends the stream.
    async fn run(self, incoming: Streaming<SyncRequest>, joined: Session, outgoing: Outgoing) {
        let welcome = self.welcome(&joined);
        let Session { snapshot, queue, ended, .. } = joined;
        let leave = self.api.shutdown.clone();
        let signed = snapshot.as_ref().map(|snapshot| self.api.app.store.sign_position(&snapshot.position));
        let send = send(welcome, snapshot.zip(signed), queue, &outgoing);
        let leaving = async {
            leave.wait().await;
            let goodbye = Goodbye { reason: "the admin is shutting down".to_owned() };
            let _ = outgoing.send_timeout(Ok(response(Message::Goodbye(goodbye))), Duration::from_secs(1)).await;
            // The validator answers under this admin's lease until it has one of another admin.
            tokio::time::sleep(MOVE_TIMEOUT).await;
        };
        tokio::select! {
            () = send => {}
            received = self.receive(incoming) => {
                if let Err(unreadable) = received {
                    let _ = outgoing.send_timeout(Err(unreadable), Duration::from_secs(1)).await;
                }
            }
            () = leaving => {}
            _ = ended => {}
        }
    }

    /// Receives messages until the validator leaves or is silent for too long.
    ///
    /// # Errors
    /// A message could not be read, or the validator stayed behind.
    async fn receive(&self, mut incoming: Streaming<SyncRequest>) -> Result<(), Status> {
        let publisher = &self.api.app.publisher;
        // Validators renew on a timer; four missed renewals mean that the validator is gone. Until the first renewal it has nothing
        // to send, because it takes its snapshot, and HTTP/2's keepalive detects a dead connection.
        let mut limit = Duration::MAX;
        let mut reports = JoinSet::new();
        let mut pace = Pace::default();
        loop {
            let message = match tokio::time::timeout(limit, incoming.next()).await {
                Ok(Some(Ok(SyncRequest { message: Some(message) }))) => message,
                // A message of a newer protocol version.
                Ok(Some(Ok(SyncRequest { message: None }))) => continue,
                Ok(Some(Err(unreadable))) => return Err(unreadable),
                Ok(None) => return Ok(()),
                Err(_) => {
                    tracing::warn!(
                        session = self.id.0,
                        validator = self.validator.1,
                        "a validator has not renewed for too long"
                    );
                    return Ok(());
                }
            };
            match message {
                Incoming::Ack(ack) => {
                    publisher.acknowledge(self.id, Revision(ack.revision), &mut pace);
                }
                Incoming::Renew(renew) => {
                    limit = publisher.policy().renew_interval() * 4;
                    let (seq, applied) = (renew.seq, Revision(renew.revision));
                    if !publisher.renew(self.id, seq, applied, &mut pace) {
                        return Err(self.stayed_behind());
                    }
                }
                // In the background: renewals must not wait for the database.
                Incoming::Withheld(report) => {
                    let reported = wire::from_withheld_tokens(report).map_err(|e| violated(e.to_string()))?;
                    while reports.try_join_next().is_some() {}
                    if reports.len() >= MAX_REPORTS {
                        return Err(violated(format!("at most {MAX_REPORTS} reports may wait for the database")));
                    }
                    reports.spawn(withhold(Arc::clone(&self.api.app), self.validator.1.clone(), reported));
                }
                // Validators of this version report no usage.
                Incoming::Usage(_) => {}
                Incoming::Goodbye(_) => {
                    publisher.handle(Event::Goodbye(self.id));
                    return Ok(());
                }
                Incoming::Hello(_) => return Ok(()),
            }
        }
    }

    /// Records that the validator renews and does not apply changes. Returns the status with which its session ends.
    fn stayed_behind(&self) -> Status {
        let rest = self.api.app.publisher.stayed_behind(self.validator.clone());
        let (member, validator) = &self.validator;
        tracing::warn!(
            session = self.id.0,
            validator,
            member = member.as_ref().map(MemberId::as_str),
            rest_ms = rest.as_millis(),
            "a validator renews and does not apply changes; its session ends"
        );
        behind(rest)
    }

    fn welcome(&self, joined: &Session) -> Welcome {
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

/// Withholds what a validator reports as denied by an earlier epoch. Repeats the attempt until it succeeds: the caller drops the
/// future with the session, and the validator reports again in the next one.
async fn withhold(app: Arc<App>, validator: String, reported: Vec<WithheldToken>) {
    loop {
        match app.publisher.withhold_reported(reported.clone()).await {
            Ok(0) => return,
            Ok(withheld) => {
                tracing::error!(
                    validator,
                    withheld,
                    "a validator has seen tokens denied that the database accepts: every validator denies them until an owner \
                     accepts the epoch: keyward audit accept-epoch"
                );
                return;
            }
            Err(error) => {
                let detail = error.internal_detail().unwrap_or_default();
                tracing::warn!(validator, %error, detail, "cannot record yet what a validator has seen denied");
                tokio::time::sleep(REPORT_AGAIN).await;
            }
        }
    }
}

/// Sends the Welcome, the snapshot if there is one, and then the queued messages, in this order.
async fn send(
    welcome: Welcome,
    snapshot: Option<(Snapshot, Vec<u8>)>,
    mut queue: mpsc::Receiver<SyncResponse>,
    outgoing: &Outgoing,
) {
    if outgoing.send(Ok(response(Message::Welcome(welcome)))).await.is_err() {
        return;
    }
    if let Some((snapshot, chain)) = snapshot
        && send_snapshot(snapshot, chain, outgoing).await.is_err()
    {
        return;
    }
    while let Some(next) = queue.recv().await {
        if outgoing.send(Ok(next)).await.is_err() {
            return;
        }
    }
}

/// `chain`: the signed chain value of the snapshot's position.
async fn send_snapshot(snapshot: Snapshot, chain: Vec<u8>, outgoing: &Outgoing) -> Result<(), ()> {
    let Snapshot { chunks, position, withheld } = snapshot;
    let revision = position.revision;
    for chunk in chunks {
        let keys = chunk.iter().map(|entry| withheld.encode(entry)).collect();
        // Dropped before the wait, so that a change need not copy the chunk.
        drop(chunk);
        let part = SnapshotChunk { keys, last: false, revision: revision.0, chain: Vec::new() };
        outgoing.send(Ok(response(Message::SnapshotChunk(part)))).await.map_err(|_| ())?;
    }
    let last = SnapshotChunk { keys: Vec::new(), last: true, revision: revision.0, chain };
    outgoing.send(Ok(response(Message::SnapshotChunk(last)))).await.map_err(|_| ())
}
