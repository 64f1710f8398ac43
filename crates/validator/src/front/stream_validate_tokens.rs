use std::task::Poll;

use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use keyward_domain::Error;
use keyward_proto::validate::stream_validate_tokens_response::Outcome;
use keyward_proto::validate::{StreamValidateTokensRequest, StreamValidateTokensResponse, ValidationError};
use keyward_runtime::shutdown::Shutdown;
use keyward_runtime::status;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::front::validate_token;
use crate::validate::Validator;

/// How many answers are sent as one part. The transport holds two parts of a stream whose answers are not read, so this bounds the
/// memory of such a stream. Many more would not be faster: the messages of a part share one frame of HTTP/2.
const ANSWERS_AT_ONCE: usize = 32;

/// Returns the stream of answers. Each is computed once the part before it was sent, so a caller that stops reading exerts
/// backpressure on its own requests.
pub(super) fn answers(
    validator: Validator,
    requests: Streaming<StreamValidateTokensRequest>,
    shutdown: Shutdown,
) -> impl Stream<Item = Result<StreamValidateTokensResponse, Status>> + Send + 'static {
    let answers = in_parts(requests.map(move |received| received.map(|request| answer(&validator, &request))));
    // An open stream must not delay the drain.
    answers.take_until(async move { shutdown.wait().await })
}

/// Returns the same stream, which is not ready once after every [`ANSWERS_AT_ONCE`] items. tonic sends what is ready as one part.
fn in_parts<T>(mut items: impl Stream<Item = T> + Unpin) -> impl Stream<Item = T> {
    let mut ready = 0;
    poll_fn(move |cx| {
        if ready == ANSWERS_AT_ONCE {
            ready = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let item = std::task::ready!(items.poll_next_unpin(cx));
        ready += 1;
        Poll::Ready(item)
    })
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
