//! Validators that are suspended at random moments, for random times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient, reason};
use keyward_tests::keyward::{Serve, Validator};
use keyward_tests::report;
use rustix::process::Signal;

const KEYS: usize = 200;
const WORKERS: usize = 10;

/// The limit for a deactivation: D' for leases of 2 s (2 s × 1.1 / 0.9 + 50 ms), and a tolerance for the delays of a
/// busy machine.
const LIMIT: Duration = Duration::from_millis(2_495 + 1_000);

/// A fixed seed, so that every run suspends in the same pattern, as far as the machine's timing allows.
const SEED: u64 = 0x5EED_0F4B_EE72;

/// Marsaglia's xorshift64.
struct Dice(u64);

impl Dice {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        low + (self.0 >> 11) % (high - low)
    }

    /// Returns a duration from 0.1 to 15 s. Short ones are as frequent as long ones.
    fn stop(&mut self) -> Duration {
        let longest = [300, 1_000, 3_000, 15_000][self.between(0, 4) as usize];
        Duration::from_millis(self.between(100, longest))
    }
}

/// Suspends a validator again and again until `end` is set. It runs when this returns. Returns how often it was
/// suspended.
async fn stop_and_go(validator: Arc<Validator>, seed: u64, end: Arc<AtomicBool>) -> usize {
    let (mut dice, mut stops) = (Dice(seed), 0);
    while !end.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(dice.between(50, 2_000))).await;
        validator.process.signal(Signal::STOP);
        tokio::time::sleep(dice.stop()).await;
        validator.process.signal(Signal::CONT);
        stops += 1;
    }
    stops
}

/// The outcomes of the validations after a deactivation returned.
#[derive(Default)]
struct Answers {
    refused: AtomicUsize,
    unavailable: AtomicUsize,
}

impl Answers {
    async fn validate(&self, client: &ValidatorClient, token: &str) {
        match client.validate(token).await {
            Ok(answer) => {
                assert_eq!(
                    answer.verdict(),
                    Verdict::Deactivated,
                    "not DEACTIVATED after Deactivate returned: {answer:?}"
                );
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => {
                assert_eq!(reason(&status), "NO_LEASE", "{status:?}");
                self.unavailable.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Validates the token of an active key in a loop: it must never be refused.
async fn load(client: ValidatorClient, token: String, end: Arc<AtomicBool>) -> (usize, usize) {
    let (mut valid, mut unavailable) = (0, 0);
    while !end.load(Ordering::Relaxed) {
        match client.validate(&token).await {
            Ok(answer) => {
                assert_eq!(answer.verdict(), Verdict::Valid, "an active key was refused");
                valid += 1;
            }
            Err(status) => {
                assert_eq!(reason(&status), "NO_LEASE");
                unavailable += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (valid, unavailable)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_deactivated_key_is_accepted_while_validators_are_suspended_for_up_to_15_s() {
    let serve = Serve::start_with(&["--lease", "2s"]);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let control = admin.create_project("6666").await.unwrap().default_token;
    let mut tokens = Vec::new();
    for n in 0..KEYS {
        tokens.push(admin.create_key("6666", &format!("k{n}")).await.unwrap().token);
    }
    let end = Arc::new(AtomicBool::new(false));
    let (mut validators, mut stoppers, mut loads, mut clients) = (vec![], vec![], vec![], vec![]);
    for n in 0..3 {
        let validator = Arc::new(serve.spawn_validator(&format!("edge{n}")));
        let client = ValidatorClient::connect(validator.grpc).await;
        assert_eq!(client.verdict(&control).await, Verdict::Valid);
        loads.push(tokio::spawn(load(client.clone(), control.clone(), Arc::clone(&end))));
        stoppers.push(tokio::spawn(stop_and_go(Arc::clone(&validator), SEED + n, Arc::clone(&end))));
        validators.push(validator);
        clients.push(client);
    }
    let answers = Arc::new(Answers::default());
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (admin, clients, answers) = (admin.clone(), clients.clone(), Arc::clone(&answers));
            let tokens: Vec<_> = tokens.iter().cloned().enumerate().skip(worker).step_by(WORKERS).collect();
            tokio::spawn(async move {
                let (mut longest, mut validations, mut dice) = (Duration::ZERO, Vec::new(), Dice(SEED ^ worker as u64));
                for (n, token) in tokens {
                    // Spreads the deactivations over the whole time in which validators are suspended.
                    tokio::time::sleep(Duration::from_millis(dice.between(0, 3_500))).await;
                    let begun = Instant::now();
                    admin.deactivate("6666", &format!("k{n}")).await.unwrap();
                    longest = longest.max(begun.elapsed());
                    for client in &clients {
                        let (client, answers, token) = (client.clone(), Arc::clone(&answers), token.clone());
                        // Not awaited here: a suspended validator answers when it resumes.
                        validations.push(tokio::spawn(async move { answers.validate(&client, &token).await }));
                    }
                }
                for one in validations {
                    one.await.unwrap();
                }
                longest
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    for worker in workers {
        longest = longest.max(worker.await.unwrap());
    }
    end.store(true, Ordering::Relaxed);
    let (mut stops, mut valid, mut unavailable) = (0, 0, 0);
    for stopper in stoppers {
        stops += stopper.await.unwrap();
    }
    for load in loads {
        let (answered, without) = load.await.unwrap();
        valid += answered;
        unavailable += without;
    }
    let (refused, silent) = (answers.refused.load(Ordering::Relaxed), answers.unavailable.load(Ordering::Relaxed));
    report::line(&format!(
        "SQLite, 3 validators, D = 2 s, {stops} stops of 0.1 to 15 s (seed {SEED:#x}): {KEYS} deactivations, longest \
         {longest:?}; validations after the return: {refused} refused, {silent} unavailable, 0 accepted; beside: {valid} \
         valid, {unavailable} unavailable"
    ));
    assert_eq!(refused + silent, KEYS * 3);
    assert!(stops >= 9, "{stops}");
    assert!(longest < LIMIT, "{longest:?}");
}
