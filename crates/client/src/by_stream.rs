use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, bail};
use keyward_domain::Expectation;
use keyward_proto::validate::stream_validate_tokens_response::Outcome;
use keyward_proto::validate::validate_service_client::ValidateServiceClient;
use keyward_proto::validate::{StreamValidateTokensRequest, StreamValidateTokensResponse, ValidateTokenRequest};
use keyward_sync::Backoff;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Streaming;
use tonic::transport::Endpoint;

use crate::address::{ConfigError, Validators};
use crate::by_call::request;
use crate::validation::{Unavailable, Validation};

/// Largest number of unanswered requests on a stream. Further requests wait.
const IN_FLIGHT: usize = 1_024;

/// How long a single validator may take to open a stream. With several validators the limit is lower.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// A stream that lasted longer than this resets the backoff.
const GOOD_STREAM: Duration = Duration::from_secs(1);

/// Validates tokens over one stream, which a background task keeps open.
#[derive(Debug)]
pub(crate) struct ByStream {
    queue: mpsc::Sender<Pending>,
    timeout: Duration,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

/// A request whose caller waits for the answer.
struct Pending {
    request: ValidateTokenRequest,
    /// How many validators had no answer to it.
    failed_attempts: usize,
    caller: oneshot::Sender<Result<Validation, Unavailable>>,
}

impl ByStream {
    pub(crate) fn start(validators: &Validators) -> Result<Self, ConfigError> {
        let (sender, queue) = mpsc::channel(IN_FLIGHT);
        let stop = CancellationToken::new();
        let (timeout, validators) = (validators.request_timeout(), validators.endpoints()?);
        // A validator that hangs must leave time for the next one.
        let overdue = if validators.len() > 1 { timeout / 2 } else { timeout };
        let dispatcher = Dispatcher { validators, overdue, current: 0, failures: 0, queue, retries: VecDeque::new() };
        tokio::spawn(dispatcher.run(stop.clone()));
        Ok(Self { queue: sender, timeout, _stop_on_drop: stop.clone().drop_guard(), stop })
    }

    pub(crate) async fn validate(&self, token: &str, expectation: &Expectation<'_>) -> Result<Validation, Unavailable> {
        let answered = async {
            let (caller, answer) = oneshot::channel();
            let pending = Pending { request: request(token, expectation), failed_attempts: 0, caller };
            self.queue.send(pending).await.map_err(|_| Unavailable::NoAnswer)?;
            answer.await.unwrap_or(Err(Unavailable::NoAnswer))
        };
        // On timeout the oneshot is dropped, by which the dispatcher notices that the caller has gone.
        tokio::time::timeout(self.timeout, answered).await.unwrap_or(Err(Unavailable::NoAnswer))
    }

    pub(crate) fn leave(&self) {
        self.stop.cancel();
    }
}

/// Sends requests to one validator at a time, and moves on to the next one when a stream fails.
struct Dispatcher {
    validators: Vec<Endpoint>,
    /// How long a request may be unanswered before the stream counts as dead.
    overdue: Duration,
    /// Index of the validator in use.
    current: usize,
    /// Number of consecutive streams that failed early.
    failures: usize,
    queue: mpsc::Receiver<Pending>,
    /// Requests that failed streams left unanswered. Validating a token twice has no side effect.
    retries: VecDeque<Pending>,
}

/// An open stream to a validator.
struct ValidatorStream {
    outgoing: mpsc::Sender<StreamValidateTokensRequest>,
    incoming: Streaming<StreamValidateTokensResponse>,
    next_id: u64,
    /// Unanswered requests, oldest first. Answers come in the order of the requests.
    in_flight: VecDeque<InFlight>,
}

struct InFlight {
    id: u64,
    since: Instant,
    pending: Pending,
}

impl Dispatcher {
    /// Runs until `stop` is cancelled. Waiting callers then get no answer.
    async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.serve() => {}
        }
    }

    /// Opens one stream after another. Never returns.
    async fn serve(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let error = match self.open().await {
                Ok(mut stream) => {
                    let error = self.exchange(&mut stream).await;
                    self.retries.extend(stream.in_flight.into_iter().map(|in_flight| in_flight.pending));
                    error
                }
                Err(error) => error,
            };
            tracing::warn!(error = format!("{error:#}"), "no stream to a validator");
            if started.elapsed() > GOOD_STREAM {
                self.failures = 0;
                backoff.reset();
            }
            self.failures += 1;
            self.current = (self.current + 1) % self.validators.len();
            // Wait only after every validator has been tried.
            if self.failures.is_multiple_of(self.validators.len()) {
                tokio::time::sleep(backoff.next_wait()).await;
            }
            self.retries.retain(|pending| !pending.caller.is_closed());
        }
    }

    async fn open(&self) -> anyhow::Result<ValidatorStream> {
        let endpoint = self.validators.get(self.current).context("no validator is configured")?;
        let opening = async {
            let channel = endpoint.connect().await?;
            let (outgoing, requests) = mpsc::channel(IN_FLIGHT);
            let requests = ReceiverStream::new(requests);
            let opened = ValidateServiceClient::new(channel).stream_validate_tokens(requests).await?;
            let incoming = opened.into_inner();
            anyhow::Ok(ValidatorStream { outgoing, incoming, next_id: 0, in_flight: VecDeque::new() })
        };
        let timeout = if self.validators.len() > 1 { self.overdue.min(OPEN_TIMEOUT) } else { OPEN_TIMEOUT };
        let opened = tokio::time::timeout(timeout, opening).await.context("opening a stream timed out")?;
        opened.with_context(|| format!("cannot open a stream to {}", endpoint.uri()))
    }

    /// Sends requests and receives answers until the stream fails. Returns why it failed.
    async fn exchange(&mut self, stream: &mut ValidatorStream) -> anyhow::Error {
        loop {
            let oldest = stream.in_flight.front().map(|in_flight| in_flight.since);
            let step = tokio::select! {
                pending = next(&mut self.retries, &mut self.queue), if stream.in_flight.len() < IN_FLIGHT => {
                    stream.send(pending)
                }
                received = stream.incoming.message() => stream.receive(received, self.validators.len()),
                () = overdue(oldest, self.overdue) => Err(anyhow::anyhow!("the validator does not answer")),
            };
            if let Err(error) = step {
                return error;
            }
        }
    }
}

/// Returns the next request, retries first. Cancel safe. Waits for ever after the last client was dropped, because the stop
/// signal ends the dispatcher then.
async fn next(retries: &mut VecDeque<Pending>, queue: &mut mpsc::Receiver<Pending>) -> Pending {
    if let Some(pending) = retries.pop_front() {
        return pending;
    }
    match queue.recv().await {
        Some(pending) => pending,
        None => std::future::pending().await,
    }
}

impl ValidatorStream {
    fn send(&mut self, pending: Pending) -> anyhow::Result<()> {
        if pending.caller.is_closed() {
            return Ok(());
        }
        let id = self.next_id;
        self.next_id += 1;
        let request = StreamValidateTokensRequest { id, request: Some(pending.request.clone()) };
        self.in_flight.push_back(InFlight { id, since: Instant::now(), pending });
        // Never full: the channel has room for all requests in flight.
        self.outgoing.try_send(request).context("the stream accepts no more requests")
    }

    /// Passes an answer to its caller. If the validator has no answer now and another one (of `validators`) may have, the
    /// request stays in flight and the stream is given up, so that it is retried there.
    fn receive(
        &mut self,
        received: Result<Option<StreamValidateTokensResponse>, tonic::Status>,
        validators: usize,
    ) -> anyhow::Result<()> {
        let Some(response) = received? else { bail!("the validator ended the stream") };
        let mut in_flight = self.in_flight.pop_front().context("an answer without a request")?;
        if in_flight.id != response.id {
            // A caller must never get the answer about another token.
            bail!("an answer to another request");
        }
        let answer = match response.outcome {
            Some(Outcome::Response(response)) => Validation::try_from(&response),
            Some(Outcome::Error(error)) => Err(Unavailable::of(error.code, &error.reason)),
            None => Err(crate::validation::UNREADABLE),
        };
        if let Err(unavailable @ (Unavailable::NoLease | Unavailable::NoAnswer)) = answer {
            in_flight.pending.failed_attempts += 1;
            if in_flight.pending.failed_attempts < validators {
                self.in_flight.push_front(in_flight);
                bail!("the validator has no answer: {unavailable}");
            }
        }
        // Fails if the caller has gone.
        let _ = in_flight.pending.caller.send(answer);
        Ok(())
    }
}

/// Waits until the oldest request is overdue. Waits for ever if there is none.
async fn overdue(oldest: Option<Instant>, after: Duration) {
    // A timeout beyond the range of `Instant` never ends.
    match oldest.and_then(|since| since.checked_add(after)) {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
