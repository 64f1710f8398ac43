use keyward_domain::Error;
use keyward_proto::validate::{BatchValidateTokensRequest, BatchValidateTokensResponse};

use crate::front::validate_token;
use crate::validate::Validator;

/// Most requests in a batch. They fit the largest message that a validator reads.
const MOST: usize = 500;

pub(super) fn answer(
    validator: &Validator,
    request: &BatchValidateTokensRequest,
) -> Result<BatchValidateTokensResponse, Error> {
    if request.requests.len() > MOST {
        return Err(Error::field("requests", format!("at most {MOST}")));
    }
    // Each is judged afresh: a change that comes in between counts for those behind it.
    let answers = request.requests.iter().enumerate().map(|(n, one)| {
        validate_token::answer(validator, one).map_err(|error| error.within(&format!("requests[{n}]")))
    });
    Ok(BatchValidateTokensResponse { responses: answers.collect::<Result<_, _>>()? })
}
