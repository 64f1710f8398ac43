use futures_util::StreamExt as _;
use keyward_domain::Error;
use keyward_proto::validate::stream_validate_tokens_response::Outcome;
use keyward_proto::validate::{StreamValidateTokensRequest, StreamValidateTokensResponse, ValidationError};
use keyward_runtime::shutdown::Shutdown;
use keyward_runtime::status;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::front::validate_token;
use crate::validate::Validator;

/// Returns the stream of answers. Each is computed once the previous one was sent, so a caller that stops reading exerts
/// backpressure on its own requests.
pub(super) fn answers(
    validator: Validator,
    requests: Streaming<StreamValidateTokensRequest>,
    shutdown: Shutdown,
) -> impl Stream<Item = Result<StreamValidateTokensResponse, Status>> + Send + 'static {
    let answers = requests.map(move |received| received.map(|request| answer(&validator, &request)));
    // An open stream must not delay the drain.
    answers.take_until(async move { shutdown.wait().await })
}

fn answer(validator: &Validator, request: &StreamValidateTokensRequest) -> StreamValidateTokensResponse {
    let inner = request.request.as_ref().ok_or_else(|| Error::field("request", "present"));
    let outcome = match inner.and_then(|request| validate_token::answer(validator, request)) {
        Ok(response) => Outcome::Response(response),
        Err(error) => Outcome::Error(failure(&error)),
    };
    StreamValidateTokensResponse { id: request.id, outcome: Some(outcome) }
}

fn failure(error: &Error) -> ValidationError {
    let reason = error.reason();
    ValidationError {
        code: status::code(reason.kind()).into(),
        reason: reason.as_str().to_owned(),
        message: error.to_string(),
    }
}
