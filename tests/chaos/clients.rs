//! Asks validators, in the three ways that there are, and never stops.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward_proto::validate::stream_validate_tokens_response::Outcome;
use keyward_proto::validate::{StreamValidateTokensRequest, StreamValidateTokensResponse, ValidateTokenRequest};
use keyward_tests::client::ValidatorClient;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::MissedTickBehavior;
use tonic::Streaming;

use crate::crowd::Subject;
use crate::dice::Dice;
use crate::history::{Asked, Violation};
use crate::run::{Run, reason};

/// Most of the load: so many in a batch, and how often one is sent to each validator.
const BATCH: usize = 80;
const BATCH_EVERY: Duration = Duration::from_millis(20);
/// Batches to one validator that may be on their way. Those to a stopped one wait until it goes on.
const BATCHES_AT_ONCE: usize = 8;

/// Seldom enough that of the longest stop every second has some that were asked in it.
const CALL_EVERY: Duration = Duration::from_millis(50);
const CALLS_AT_ONCE: usize = 500;

const STREAMED_EVERY: Duration = Duration::from_millis(10);
const STREAMED_AT_ONCE: usize = 200;

/// How long an answer is waited for: longer than any stop.
const PATIENCE: Duration = Duration::from_secs(25);

/// After a stream has broken.
const PAUSE: Duration = Duration::from_millis(50);

fn request(subject: &Subject) -> ValidateTokenRequest {
    ValidateTokenRequest { token: subject.token.clone(), ..Default::default() }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Asks about many keys at once, again and again.
pub(crate) async fn by_batch(run: Arc<Run>, validator: usize) {
    let client = ValidatorClient::connect(run.site.validators[validator].at).await;
    let mut dice = Dice::of(run.seed, 100 + validator as u64);
    let (permits, mut ticks) = (Arc::new(Semaphore::new(BATCHES_AT_ONCE)), every(BATCH_EVERY));
    while !run.is_over() {
        ticks.tick().await;
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let subjects = run.crowd.some(&mut dice, BATCH);
        let (run, client) = (Arc::clone(&run), client.clone());
        tokio::spawn(async move {
            ask_batch(&run, validator, &client, &subjects).await;
            drop(permit);
        });
    }
}

/// Asks a validator about these at once. Whether there was an answer.
pub(crate) async fn ask_batch(
    run: &Run,
    validator: usize,
    client: &ValidatorClient,
    subjects: &[Arc<Subject>],
) -> bool {
    let requests = subjects.iter().map(|subject| request(subject)).collect();
    let asked = run.ask(validator);
    match tokio::time::timeout(PATIENCE, client.batch(requests)).await {
        Ok(Ok(answers)) if answers.len() == subjects.len() => {
            subjects.iter().zip(&answers).for_each(|(subject, said)| run.hear(validator, &asked, subject, said));
            return true;
        }
        Ok(Ok(answers)) => run.tally.violation(Violation::Nonsense, || format!("{} answers", answers.len())),
        Ok(Err(status)) => run.no_verdict(validator, reason(&status).as_deref()),
        Err(_) => run.no_verdict(validator, None),
    }
    false
}

/// Asks about one key at a time, without waiting for the answer before.
pub(crate) async fn by_call(run: Arc<Run>, validator: usize) {
    let client = ValidatorClient::connect(run.site.validators[validator].at).await;
    let mut dice = Dice::of(run.seed, 200 + validator as u64);
    let (permits, mut ticks) = (Arc::new(Semaphore::new(CALLS_AT_ONCE)), every(CALL_EVERY));
    while !run.is_over() {
        ticks.tick().await;
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let subject = run.crowd.changing(&mut dice);
        let (run, client) = (Arc::clone(&run), client.clone());
        tokio::spawn(async move {
            ask(&run, validator, &client, &subject).await;
            drop(permit);
        });
    }
}

/// Asks a validator about one key. Whether it was accepted.
pub(crate) async fn ask(run: &Run, validator: usize, client: &ValidatorClient, subject: &Subject) -> bool {
    let request = request(subject);
    let asked = run.ask(validator);
    match tokio::time::timeout(PATIENCE, client.validate_request(request)).await {
        Ok(Ok(said)) => {
            run.hear(validator, &asked, subject, &said);
            return said.verdict() == keyward_proto::validate::Verdict::Valid;
        }
        Ok(Err(status)) => run.no_verdict(validator, reason(&status).as_deref()),
        Err(_) => run.no_verdict(validator, None),
    }
    false
}

/// What was asked down a stream and is not answered yet, in order.
type Pending = Mutex<VecDeque<(u64, Asked, Arc<Subject>)>>;

/// Asks down one stream after another.
pub(crate) async fn by_stream(run: Arc<Run>, validator: usize) {
    let client = ValidatorClient::connect(run.site.validators[validator].at).await;
    let mut dice = Dice::of(run.seed, 300 + validator as u64);
    while !run.is_over() {
        let (requests, asked) = mpsc::channel(STREAMED_AT_ONCE);
        match tokio::time::timeout(PATIENCE, client.stream(asked)).await {
            Ok(Ok(answers)) => {
                let pending = Pending::default();
                tokio::select! {
                    () = feed(&run, validator, &mut dice, &pending, requests) => {}
                    () = listen(&run, validator, &pending, answers) => {}
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
        let Ok(place) = requests.reserve().await else { return };
        let subject = run.crowd.changing(dice);
        let request = Some(request(&subject));
        // Noted before it is sent: the answer may come at once.
        pending.lock().unwrap().push_back((id, run.ask(validator), subject));
        place.send(StreamValidateTokensRequest { id, request });
    }
}

async fn listen(run: &Run, validator: usize, pending: &Pending, mut answers: Streaming<StreamValidateTokensResponse>) {
    while let Ok(Some(answer)) = answers.message().await {
        let Some((id, asked, subject)) = pending.lock().unwrap().pop_front() else { break };
        match answer.outcome {
            Some(Outcome::Response(said)) if answer.id == id => run.hear(validator, &asked, &subject, &said),
            Some(Outcome::Error(error)) if answer.id == id => run.no_verdict(validator, Some(&error.reason)),
            _ => run.tally.violation(Violation::Nonsense, || format!("an answer out of order: {answer:?}")),
        }
    }
    run.no_verdict(validator, None);
}
