//! Those who ask validators.

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

/// How long a gateway waits, which is long: an answer that was on its way for seconds is still held to the time of its
/// question.
const PATIENCE: Duration = Duration::from_secs(3);

/// Milliseconds between two calls to one validator.
const EVERY: std::ops::Range<u64> = 25..95;

/// Keys asked about: the newest, that is those which somebody is changing and those given up last.
const NEWEST: usize = 9;

/// How long the mutant's cache keeps an answer.
const CACHED: Duration = Duration::from_millis(700);

/// Asks every validator until `end`.
pub(crate) async fn ask_on(world: Arc<World>, end: Duration) -> turmoil::Result {
    let askers = (0..VALIDATORS).map(|validator| {
        let asker = Asker { world: Arc::clone(&world), validator, memory: Arc::default() };
        tokio::spawn(asker.ask_on(end))
    });
    for asker in askers.collect::<Vec<_>>() {
        asker.await?;
    }
    Ok(())
}

/// One gateway, in front of one validator.
#[derive(Clone)]
struct Asker {
    world: Arc<World>,
    validator: usize,
    memory: Arc<Mutex<Memory>>,
}

/// What no gateway should have: only mutants use it.
#[derive(Default)]
struct Memory {
    answers: BTreeMap<usize, Answer>,
    asked: BTreeMap<usize, broadcast::Sender<Option<Answer>>>,
}

impl Asker {
    async fn ask_on(self, end: Duration) {
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
            tokio::spawn(self.clone().ask(connected.clone(), keys));
        }
    }

    /// Asks about one key by itself, about several in one call.
    async fn ask(self, channel: Channel, keys: Vec<usize>) {
        let asked = time::now();
        if let [key] = keys[..]
            && self.answered_by_a_mutant(key, asked).await
        {
            return;
        }
        let life = self.world.life(self.validator);
        let shared = self.begins(&keys);
        let asking = tokio::time::timeout(PATIENCE, self.tell(channel, &keys)).await;
        let answers = asking.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        // From a process that was replaced meanwhile, or by the one that came after: nobody knows.
        let same = life == self.world.life(self.validator);
        match answers {
            Ok(told) => {
                for (key, told) in keys.iter().zip(told).filter(|_| same) {
                    let (verdict, revision) = (told.verdict(), told.revision);
                    self.note(Answer { life, verdict, revision, ..self.answer(*key, asked) });
                }
            }
            Err(_) => self.no_answer(&keys, asked),
        }
        if let Some(key) = shared {
            self.ends(key);
        }
    }

    async fn tell(&self, channel: Channel, keys: &[usize]) -> Result<Vec<ValidateTokenResponse>, Status> {
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

    /// An answer told now, but for what it says.
    fn answer(&self, key: usize, asked: Duration) -> Answer {
        let (validator, told) = (self.validator, time::now());
        Answer { key, validator, life: 0, asked, told, verdict: Verdict::Unspecified, revision: 0 }
    }

    fn note(&self, answer: Answer) {
        let Answer { key, validator, verdict, revision, .. } = answer;
        let mut history = self.world.history();
        history.note(answer.told, &format!("validator-{validator}: {key} {verdict:?} at {revision}"));
        history.answers.push(answer);
        drop(history);
        if self.world.mutant != Mutant::None {
            self.memory.lock().unwrap().answers.insert(key, answer);
        }
    }

    fn no_answer(&self, keys: &[usize], asked: Duration) {
        self.world.history().unavailable += keys.len() as u64;
        if self.world.mutant == Mutant::ServesStale {
            for key in keys {
                let known = self.memory.lock().unwrap().answers.get(key).copied();
                if let Some(known) = known {
                    self.repeat(known, asked);
                }
            }
        }
    }

    /// Passes off an earlier answer as one to a question asked at `asked`.
    fn repeat(&self, known: Answer, asked: Duration) {
        self.world.history().answers.push(Answer { asked, told: time::now(), ..known });
    }

    // === mutants ===

    /// Whether a mutant had an answer without asking.
    async fn answered_by_a_mutant(&self, key: usize, asked: Duration) -> bool {
        match self.world.mutant {
            Mutant::ResultCache => {
                let known = self.memory.lock().unwrap().answers.get(&key).copied();
                let Some(known) = known.filter(|known| known.told + CACHED > asked) else { return false };
                self.repeat(known, asked);
                true
            }
            Mutant::SingleFlight => {
                let waiting = self.memory.lock().unwrap().asked.get(&key).map(broadcast::Sender::subscribe);
                let Some(mut waiting) = waiting else { return false };
                if let Ok(Some(known)) = waiting.recv().await {
                    self.repeat(known, asked);
                }
                true
            }
            _ => false,
        }
    }

    /// Remembers that a question is on its way.
    fn begins(&self, keys: &[usize]) -> Option<usize> {
        let [key] = keys[..] else { return None };
        if self.world.mutant != Mutant::SingleFlight {
            return None;
        }
        self.memory.lock().unwrap().asked.insert(key, broadcast::Sender::new(1));
        Some(key)
    }

    /// Tells those who waited.
    fn ends(&self, key: usize) {
        let mut memory = self.memory.lock().unwrap();
        let known = memory.answers.get(&key).copied();
        if let Some(waiting) = memory.asked.remove(&key) {
            let _ = waiting.send(known);
        }
    }
}
