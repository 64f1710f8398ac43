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

/// The answers, each made when the one before it has been taken: a caller that does not read is not read from.
pub(super) fn answers(
    validator: Validator,
    requests: Streaming<StreamValidateTokensRequest>,
    shutdown: Shutdown,
) -> impl Stream<Item = Result<StreamValidateTokensResponse, Status>> + Send + 'static {
    let answers = requests.map(move |said| said.map(|request| answer(&validator, &request)));
    // Otherwise one stream would hold up the drain until its end.
    answers.take_until(async move { shutdown.wait().await })
}

fn answer(validator: &Validator, request: &StreamValidateTokensRequest) -> StreamValidateTokensResponse {
    let asked = request.request.as_ref().ok_or_else(|| Error::field("request", "present"));
    let outcome = match asked.and_then(|asked| validate_token::answer(validator, asked)) {
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
