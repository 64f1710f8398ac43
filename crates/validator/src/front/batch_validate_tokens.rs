use keyward_domain::Error;
use keyward_proto::validate::{BatchValidateTokensRequest, BatchValidateTokensResponse};

use crate::front::validate_token;
use crate::validate::Validator;

/// Largest number of requests in a batch. That many fit into the largest message that a validator accepts.
const MAX_REQUESTS: usize = 500;

pub(super) fn answer(
    validator: &Validator,
    request: &BatchValidateTokensRequest,
) -> Result<BatchValidateTokensResponse, Error> {
    if request.requests.len() > MAX_REQUESTS {
        return Err(Error::field("requests", format!("at most {MAX_REQUESTS}")));
    }
    // Each request sees the newest replica: a change that arrives meanwhile applies to the remaining ones.
    let answers = request.requests.iter().enumerate().map(|(n, one)| {
        validate_token::answer(validator, one).map_err(|error| error.within(&format!("requests[{n}]")))
    });
    Ok(BatchValidateTokensResponse { responses: answers.collect::<Result<_, _>>()? })
}
