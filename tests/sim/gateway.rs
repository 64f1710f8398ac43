//! Gateways: the clients of validators.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward_proto::validate::validate_service_client::ValidateServiceClient;
use keyward_proto::validate::{BatchValidateTokensRequest, ValidateTokenRequest, ValidateTokenResponse, Verdict};
use rand::RngExt;
use tokio::sync::broadcast;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::history::Answer;
use crate::mutant::Mutant;
use crate::net::{PORT, connector};
use crate::time;
use crate::world::{VALIDATORS, World};

/// The timeout of a call. It is long, so that an answer that is in flight for seconds is still checked against the time
/// of its request.
const PATIENCE: Duration = Duration::from_secs(3);

/// Milliseconds between two calls to one validator.
const EVERY: std::ops::Range<u64> = 25..95;

/// How many of the newest keys are validated. Those are the keys that are changing or were finished last.
const NEWEST: usize = 9;

/// How long the mutant's cache keeps an answer.
const CACHED: Duration = Duration::from_millis(700);

/// Runs a gateway for every validator until `end`.
pub(crate) async fn validate_until(world: Arc<World>, end: Duration) -> turmoil::Result {
    let gateways = (0..VALIDATORS).map(|validator| {
        let gateway = Gateway { world: Arc::clone(&world), validator, state: Arc::default() };
        tokio::spawn(gateway.run(end))
    });
    for gateway in gateways.collect::<Vec<_>>() {
        gateway.await?;
    }
    Ok(())
}

/// A gateway in front of one validator.
#[derive(Clone)]
struct Gateway {
    world: Arc<World>,
    validator: usize,
    state: Arc<Mutex<MutantState>>,
}

/// State that a correct gateway does not have. Only mutants use it.
#[derive(Default)]
struct MutantState {
    answers: BTreeMap<usize, Answer>,
    in_flight: BTreeMap<usize, broadcast::Sender<Option<Answer>>>,
}

impl Gateway {
    async fn run(self, end: Duration) {
        let mut random = self.world.random(200 + self.validator as u64);
        let endpoint = Endpoint::from_shared(format!("http://validator-{}:{PORT}", self.validator)).unwrap();
        let endpoint = endpoint
            .connect_timeout(Duration::from_millis(500))
            .http2_keep_alive_interval(Duration::from_secs(1))
            .keep_alive_timeout(Duration::from_millis(1_200));
        let mut channel = None;
        while time::now() < end {
            tokio::time::sleep(Duration::from_millis(random.random_range(EVERY))).await;
            let Some(connected) = &channel else {
                channel =
                    tokio::time::timeout(PATIENCE, connector().connect(&endpoint)).await.ok().and_then(Result::ok);
                continue;
            };
            let count = if random.random_bool(0.5) { 1 } else { random.random_range(2..=6) };
            let newest = self.world.history().newest(NEWEST);
            if newest.is_empty() {
                continue;
            }
            let keys: Vec<_> = (0..count).map(|_| random.random_range(newest.clone())).collect();
            tokio::spawn(self.clone().validate(connected.clone(), keys));
        }
    }

    /// Validates one key by ValidateToken, several by BatchValidateTokens.
    async fn validate(self, channel: Channel, keys: Vec<usize>) {
        let sent = time::now();
        if let [key] = keys[..]
            && self.answered_by_a_mutant(key, sent).await
        {
            return;
        }
        let life = self.world.life(self.validator);
        let shared = self.begin_flight(&keys);
        let call = tokio::time::timeout(PATIENCE, self.call(channel, &keys)).await;
        let answers = call.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        // If the validator was restarted meanwhile, it is unknown which process answered.
        let same = life == self.world.life(self.validator);
        match answers {
            Ok(responses) => {
                for (key, response) in keys.iter().zip(responses).filter(|_| same) {
                    let (verdict, revision) = (response.verdict(), response.revision);
                    self.note(Answer { life, verdict, revision, ..self.answer(*key, sent) });
                }
            }
            Err(_) => self.no_answer(&keys, sent),
        }
        if let Some(key) = shared {
            self.end_flight(key);
        }
    }

    async fn call(&self, channel: Channel, keys: &[usize]) -> Result<Vec<ValidateTokenResponse>, Status> {
        let tokens: Vec<_> = {
            let history = self.world.history();
            keys.iter().map(|key| history.keys[*key].token.clone()).collect()
        };
        let mut requests = tokens.into_iter().map(|token| ValidateTokenRequest { token, ..Default::default() });
        let mut client = ValidateServiceClient::new(channel);
        if keys.len() == 1 {
            let request = requests.next_back().unwrap_or_default();
            return Ok(vec![client.validate_token(request).await?.into_inner()]);
        }
        let batch = BatchValidateTokensRequest { requests: requests.collect() };
        Ok(client.batch_validate_tokens(batch).await?.into_inner().responses)
    }

    /// Returns an answer that is received now, without its verdict and revision.
    fn answer(&self, key: usize, sent: Duration) -> Answer {
        let (validator, received) = (self.validator, time::now());
        Answer { key, validator, life: 0, sent, received, verdict: Verdict::Unspecified, revision: 0 }
    }

    fn note(&self, answer: Answer) {
        let Answer { key, validator, verdict, revision, .. } = answer;
        let mut history = self.world.history();
        history.note(answer.received, &format!("validator-{validator}: {key} {verdict:?} at {revision}"));
        history.answers.push(answer);
        drop(history);
        if self.world.mutant != Mutant::None {
            self.state.lock().unwrap().answers.insert(key, answer);
        }
    }

    fn no_answer(&self, keys: &[usize], sent: Duration) {
        self.world.history().unavailable += keys.len() as u64;
        if self.world.mutant == Mutant::ServesStale {
            for key in keys {
                let known = self.state.lock().unwrap().answers.get(key).copied();
                if let Some(known) = known {
                    self.repeat(known, sent);
                }
            }
        }
    }

    /// Records an earlier answer as the response to a request sent at `sent`.
    fn repeat(&self, known: Answer, sent: Duration) {
        self.world.history().answers.push(Answer { sent, received: time::now(), ..known });
    }

    // === mutants ===

    /// Returns `true` if a mutant answered without a call.
    async fn answered_by_a_mutant(&self, key: usize, sent: Duration) -> bool {
        match self.world.mutant {
            Mutant::ResultCache => {
                let known = self.state.lock().unwrap().answers.get(&key).copied();
                let Some(known) = known.filter(|known| known.received + CACHED > sent) else { return false };
                self.repeat(known, sent);
                true
            }
            Mutant::SingleFlight => {
                let waiting = self.state.lock().unwrap().in_flight.get(&key).map(broadcast::Sender::subscribe);
                let Some(mut waiting) = waiting else { return false };
                if let Ok(Some(known)) = waiting.recv().await {
                    self.repeat(known, sent);
                }
                true
            }
            _ => false,
        }
    }

    /// Records that a request is in flight.
    fn begin_flight(&self, keys: &[usize]) -> Option<usize> {
        let [key] = keys[..] else { return None };
        if self.world.mutant != Mutant::SingleFlight {
            return None;
        }
        self.state.lock().unwrap().in_flight.insert(key, broadcast::Sender::new(1));
        Some(key)
    }

    /// Gives the answer to the requests that waited for it.
    fn end_flight(&self, key: usize) {
        let mut state = self.state.lock().unwrap();
        let known = state.answers.get(&key).copied();
        if let Some(waiting) = state.in_flight.remove(&key) {
            let _ = waiting.send(known);
        }
    }
}
