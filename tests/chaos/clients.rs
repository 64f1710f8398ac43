//! Clients that validate tokens at the validators, by batch, by call and by stream, for the whole run.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward_proto::validate::stream_validate_tokens_response::Outcome;
use keyward_proto::validate::{StreamValidateTokensRequest, StreamValidateTokensResponse, ValidateTokenRequest};
use keyward_tests::client::ValidatorClient;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::MissedTickBehavior;
use tonic::Streaming;

use crate::dice::Dice;
use crate::history::{Baseline, Violation};
use crate::keys::TrackedKey;
use crate::run::{Run, reason};

/// Most of the load is batches: the size of a batch, and the interval at which one is sent to each validator.
const BATCH: usize = 80;
const BATCH_EVERY: Duration = Duration::from_millis(20);
/// Batches in flight to one validator. Those to a suspended validator wait until it resumes.
const BATCHES_AT_ONCE: usize = 8;

/// Interval and limit of single calls. The limit is high enough that even in the longest suspension each second has
/// some calls.
const CALL_EVERY: Duration = Duration::from_millis(50);
const CALLS_AT_ONCE: usize = 500;

const STREAMED_EVERY: Duration = Duration::from_millis(10);
const STREAMED_AT_ONCE: usize = 200;

/// The longest wait for a response: longer than any suspension.
const PATIENCE: Duration = Duration::from_secs(25);

/// The pause after a stream has broken.
const PAUSE: Duration = Duration::from_millis(50);

fn request(key: &TrackedKey) -> ValidateTokenRequest {
    ValidateTokenRequest { token: key.token.clone(), ..Default::default() }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Validates batches of keys in a loop.
pub(crate) async fn by_batch(run: Arc<Run>, validator: usize) {
    let client = ValidatorClient::connect(run.site.validators[validator].at).await;
    let mut dice = Dice::of(run.seed, 100 + validator as u64);
    let (permits, mut ticks) = (Arc::new(Semaphore::new(BATCHES_AT_ONCE)), every(BATCH_EVERY));
    while !run.is_over() {
        ticks.tick().await;
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let keys = run.keys.some(&mut dice, BATCH);
        let (run, client) = (Arc::clone(&run), client.clone());
        tokio::spawn(async move {
            validate_batch(&run, validator, &client, &keys).await;
            drop(permit);
        });
    }
}

/// Validates a batch of keys. Returns `true` if there was a response.
pub(crate) async fn validate_batch(
    run: &Run,
    validator: usize,
    client: &ValidatorClient,
    keys: &[Arc<TrackedKey>],
) -> bool {
    let requests = keys.iter().map(|key| request(key)).collect();
    let baseline = run.baseline(validator);
    match tokio::time::timeout(PATIENCE, client.batch(requests)).await {
        Ok(Ok(answers)) if answers.len() == keys.len() => {
            keys.iter().zip(&answers).for_each(|(key, response)| run.record(validator, &baseline, key, response));
            return true;
        }
        Ok(Ok(answers)) => run.tally.violation(Violation::InvalidAnswer, || format!("{} answers", answers.len())),
        Ok(Err(status)) => run.no_verdict(validator, reason(&status).as_deref()),
        Err(_) => run.no_verdict(validator, None),
    }
    false
}

/// Validates single keys at a fixed rate, without waiting for earlier responses.
pub(crate) async fn by_call(run: Arc<Run>, validator: usize) {
    let client = ValidatorClient::connect(run.site.validators[validator].at).await;
    let mut dice = Dice::of(run.seed, 200 + validator as u64);
    let (permits, mut ticks) = (Arc::new(Semaphore::new(CALLS_AT_ONCE)), every(CALL_EVERY));
    while !run.is_over() {
        ticks.tick().await;
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let key = run.keys.changing(&mut dice);
        let (run, client) = (Arc::clone(&run), client.clone());
        tokio::spawn(async move {
            validate(&run, validator, &client, &key).await;
            drop(permit);
        });
    }
}

/// Validates one key. Returns `true` if it was accepted.
pub(crate) async fn validate(run: &Run, validator: usize, client: &ValidatorClient, key: &TrackedKey) -> bool {
    let request = request(key);
    let baseline = run.baseline(validator);
    match tokio::time::timeout(PATIENCE, client.validate_request(request)).await {
        Ok(Ok(response)) => {
            run.record(validator, &baseline, key, &response);
            return response.verdict() == keyward_proto::validate::Verdict::Valid;
        }
        Ok(Err(status)) => run.no_verdict(validator, reason(&status).as_deref()),
        Err(_) => run.no_verdict(validator, None),
    }
    false
}

/// The requests of a stream that are not answered yet, in order.
type Pending = Mutex<VecDeque<(u64, Baseline, Arc<TrackedKey>)>>;

/// Validates keys by stream, and opens a new stream when one breaks.
pub(crate) async fn by_stream(run: Arc<Run>, validator: usize) {
    let client = ValidatorClient::connect(run.site.validators[validator].at).await;
    let mut dice = Dice::of(run.seed, 300 + validator as u64);
    while !run.is_over() {
        let (requests, receiver) = mpsc::channel(STREAMED_AT_ONCE);
        match tokio::time::timeout(PATIENCE, client.stream(receiver)).await {
            Ok(Ok(answers)) => {
                let pending = Pending::default();
                tokio::select! {
                    () = feed(&run, validator, &mut dice, &pending, requests) => {}
                    () = receive(&run, validator, &pending, answers) => {}
                }
            }
            _ => run.no_verdict(validator, None),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn feed(
    run: &Run,
    validator: usize,
    dice: &mut Dice,
    pending: &Pending,
    requests: mpsc::Sender<StreamValidateTokensRequest>,
) {
    let mut ticks = every(STREAMED_EVERY);
    for id in 0.. {
        ticks.tick().await;
        if run.is_over() {
            return;
        }
        let Ok(permit) = requests.reserve().await else { return };
        let key = run.keys.changing(dice);
        let request = Some(request(&key));
        // Recorded before it is sent, because the answer may come at once.
        pending.lock().unwrap().push_back((id, run.baseline(validator), key));
        permit.send(StreamValidateTokensRequest { id, request });
    }
}

async fn receive(run: &Run, validator: usize, pending: &Pending, mut answers: Streaming<StreamValidateTokensResponse>) {
    while let Ok(Some(answer)) = answers.message().await {
        let Some((id, baseline, key)) = pending.lock().unwrap().pop_front() else { break };
        match answer.outcome {
            Some(Outcome::Response(response)) if answer.id == id => run.record(validator, &baseline, &key, &response),
            Some(Outcome::Error(error)) if answer.id == id => run.no_verdict(validator, Some(&error.reason)),
            _ => run.tally.violation(Violation::InvalidAnswer, || format!("an answer out of order: {answer:?}")),
        }
    }
    run.no_verdict(validator, None);
}
