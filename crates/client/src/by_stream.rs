use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, bail};
use keyward_domain::Expectation;
use keyward_proto::validate::stream_validate_tokens_response::Outcome;
use keyward_proto::validate::validate_service_client::ValidateServiceClient;
use keyward_proto::validate::{StreamValidateTokensRequest, StreamValidateTokensResponse, ValidateTokenRequest};
use keyward_sync::{Backoff, Stop, StopTrigger};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use crate::address::{ConfigError, Validators};
use crate::by_call::request;
use crate::validation::{Unavailable, Validation};

/// Questions without an answer on a stream; further ones wait.
const IN_FLIGHT: usize = 1_024;

/// How long a lone validator may take to open a stream. Of several, none is waited for so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// A stream that lasted so long went well: the next one need not be waited for.
const GOOD_STREAM: Duration = Duration::from_secs(1);

/// Asks down one stream, which a task in the background keeps open.
#[derive(Debug)]
pub(crate) struct ByStream {
    questions: mpsc::Sender<Question>,
    patience: Duration,
    stop: StopTrigger,
}

/// One token, and who waits for the answer.
struct Question {
    request: ValidateTokenRequest,
    /// Validators that had no answer to it.
    without_answer: usize,
    asker: oneshot::Sender<Result<Validation, Unavailable>>,
}

impl ByStream {
    pub(crate) fn start(validators: &Validators) -> Result<Self, ConfigError> {
        let (questions, asked) = mpsc::channel(IN_FLIGHT);
        let (stop, stops) = StopTrigger::new();
        let (patience, validators) = (validators.patience(), validators.endpoints()?);
        // One that hangs leaves time for another.
        let overdue = if validators.len() > 1 { patience / 2 } else { patience };
        let desk = Desk { validators, overdue, turn: 0, failures: 0, asked, again: VecDeque::new() };
        tokio::spawn(desk.run(stops));
        Ok(Self { questions, patience, stop })
    }

    pub(crate) async fn validate(&self, token: &str, expectation: &Expectation<'_>) -> Result<Validation, Unavailable> {
        let answered = async {
            let (asker, answer) = oneshot::channel();
            let question = Question { request: request(token, expectation), without_answer: 0, asker };
            self.questions.send(question).await.map_err(|_| Unavailable::NoAnswer)?;
            answer.await.unwrap_or(Err(Unavailable::NoAnswer))
        };
        // Dropping the future when it is over tells the desk that nobody waits any more.
        tokio::time::timeout(self.patience, answered).await.unwrap_or(Err(Unavailable::NoAnswer))
    }

    pub(crate) fn leave(&self) {
        self.stop.stop();
    }
}

/// Carries questions to whichever validator answers.
struct Desk {
    validators: Vec<Endpoint>,
    /// How long a question may go without an answer before the stream counts as dead.
    overdue: Duration,
    /// Which of them is next.
    turn: usize,
    /// How many in a row have been of no use.
    failures: usize,
    asked: mpsc::Receiver<Question>,
    /// What a stream that ended has left without an answer. To judge a token twice does no harm.
    again: VecDeque<Question>,
}

/// A stream to a validator.
struct Line {
    outgoing: mpsc::Sender<StreamValidateTokensRequest>,
    incoming: Streaming<StreamValidateTokensResponse>,
    next_id: u64,
    /// Answers come in the order of the questions.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    id: u64,
    since: Instant,
    question: Question,
}

impl Desk {
    /// Runs until it is told to stop. Who waits then hears that there is no answer.
    async fn run(mut self, stop: Stop) {
        tokio::select! {
            () = stop.wait() => {}
            () = self.serve() => {}
        }
    }

    /// One stream after another, without end.
    async fn serve(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let begun = Instant::now();
            let ended = match self.open().await {
                Ok(mut line) => {
                    let ended = self.carry(&mut line).await;
                    self.again.extend(line.waiting.into_iter().map(|waiting| waiting.question));
                    ended
                }
                Err(error) => error,
            };
            tracing::warn!(error = format!("{ended:#}"), "no stream to a validator");
            if begun.elapsed() > GOOD_STREAM {
                self.failures = 0;
                backoff.reset();
            }
            self.failures += 1;
            self.turn = (self.turn + 1) % self.validators.len();
            // All of them had their turn: a little later, then.
            if self.failures.is_multiple_of(self.validators.len()) {
                tokio::time::sleep(backoff.next_wait()).await;
            }
            self.again.retain(|question| !question.asker.is_closed());
        }
    }

    async fn open(&self) -> anyhow::Result<Line> {
        let endpoint = self.validators.get(self.turn).context("no validator is configured")?;
        let opening = async {
            let channel = endpoint.connect().await?;
            let (outgoing, requests) = mpsc::channel(IN_FLIGHT);
            let requests = ReceiverStream::new(requests);
            let opened = ValidateServiceClient::new(channel).stream_validate_tokens(requests).await?;
            anyhow::Ok(Line { outgoing, incoming: opened.into_inner(), next_id: 0, waiting: VecDeque::new() })
        };
        let patience = if self.validators.len() > 1 { self.overdue.min(PATIENCE) } else { PATIENCE };
        let opened = tokio::time::timeout(patience, opening).await.context("no stream in time")?;
        opened.with_context(|| format!("{} opens no stream", endpoint.uri()))
    }

    /// Carries questions up and answers down until the stream is of no more use, and says why.
    async fn carry(&mut self, line: &mut Line) -> anyhow::Error {
        loop {
            let oldest = line.waiting.front().map(|waiting| waiting.since);
            let ended = tokio::select! {
                question = next(&mut self.again, &mut self.asked), if line.waiting.len() < IN_FLIGHT => {
                    line.ask(question).await
                }
                said = line.incoming.message() => line.hear(said, self.validators.len()),
                () = overdue(oldest, self.overdue) => Err(anyhow::anyhow!("the validator hangs")),
            };
            if let Err(error) = ended {
                return error;
            }
        }
    }
}

/// The next question, those first that were asked before. Cancel safe. Never one after the last client is gone: the desk is
/// told to stop then.
async fn next(again: &mut VecDeque<Question>, asked: &mut mpsc::Receiver<Question>) -> Question {
    if let Some(question) = again.pop_front() {
        return question;
    }
    match asked.recv().await {
        Some(question) => question,
        None => std::future::pending().await,
    }
}

impl Line {
    async fn ask(&mut self, question: Question) -> anyhow::Result<()> {
        if question.asker.is_closed() {
            return Ok(());
        }
        let id = self.next_id;
        self.next_id += 1;
        let request = StreamValidateTokensRequest { id, request: Some(question.request.clone()) };
        self.waiting.push_back(Waiting { id, since: Instant::now(), question });
        // There is room for as many as may wait, so this never does.
        self.outgoing.try_send(request).context("the stream takes no more questions")
    }

    /// `validators`: how many there are; others may do better than one that has no answer now.
    fn hear(
        &mut self,
        said: Result<Option<StreamValidateTokensResponse>, tonic::Status>,
        validators: usize,
    ) -> anyhow::Result<()> {
        let Some(said) = said? else { bail!("the validator ended the stream") };
        let mut waiting = self.waiting.pop_front().context("an answer without a question")?;
        if waiting.id != said.id {
            // Nobody may be given an answer about another token.
            bail!("an answer to another question");
        }
        let answer = match said.outcome {
            Some(Outcome::Response(response)) => Validation::try_from(&response),
            Some(Outcome::Error(error)) => Err(Unavailable::of(error.code, &error.reason)),
            None => Err(crate::validation::UNREADABLE),
        };
        if let Err(unavailable @ (Unavailable::NoLease | Unavailable::NoAnswer)) = answer {
            waiting.question.without_answer += 1;
            if waiting.question.without_answer < validators {
                self.waiting.push_front(waiting);
                bail!("the validator has no answer: {unavailable}");
            }
        }
        // Whoever asked may have gone.
        let _ = waiting.question.asker.send(answer);
        Ok(())
    }
}

/// Waits until the oldest question has gone without an answer for too long.
async fn overdue(oldest: Option<Instant>, after: Duration) {
    // One that would be waited for beyond the end of time is never overdue.
    match oldest.and_then(|since| since.checked_add(after)) {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
