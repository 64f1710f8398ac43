use keyward_domain::{Error, Expectation, OnField, ProjectId, Revision, Verdict};
use keyward_proto::validate::validate_token_request::Consistency;
use keyward_proto::validate::{self, ValidateTokenRequest, ValidateTokenResponse};
use keyward_replica::Answer;

use crate::validate::Validator;

/// Validates the token of one request.
pub(super) fn answer(validator: &Validator, request: &ValidateTokenRequest) -> Result<ValidateTokenResponse, Error> {
    let project = match request.project.as_str() {
        "" => None,
        name => Some(ProjectId::check(name.strip_prefix("projects/").unwrap_or(name)).on_field("project")?),
    };
    let expectation = Expectation { project, allow_client_keys: request.allow_client_keys };
    let answer = validator.validate(&request.token, &expectation, at_least(request)?)?;
    Ok(render(&answer))
}

/// Returns the lowest revision that may answer: 0 unless consistency is AT_LEAST.
fn at_least(request: &ValidateTokenRequest) -> Result<Revision, Error> {
    let consistency = Consistency::try_from(request.consistency)
        .map_err(|_| Error::field("consistency", "one of the enum's values"))?;
    match (consistency, request.min_revision) {
        (Consistency::AtLeast, 1..) => Ok(Revision(request.min_revision)),
        (Consistency::AtLeast, _) => Err(Error::field("min_revision", "1 or more with consistency AT_LEAST")),
        (Consistency::Unspecified | Consistency::Lease, 0) => Ok(Revision(0)),
        (Consistency::Unspecified | Consistency::Lease, _) => {
            Err(Error::field("min_revision", "0 unless consistency is AT_LEAST"))
        }
    }
}

fn render(answer: &Answer) -> ValidateTokenResponse {
    let verdict = match answer.verdict {
        Verdict::Valid => validate::Verdict::Valid,
        Verdict::Malformed => validate::Verdict::Malformed,
        Verdict::Unknown => validate::Verdict::Unknown,
        Verdict::Deactivated => validate::Verdict::Deactivated,
        Verdict::Expired => validate::Verdict::Expired,
        Verdict::WrongProject => validate::Verdict::WrongProject,
        Verdict::ClientKeyNotAllowed => validate::Verdict::ClientKeyNotAllowed,
    };
    let mut response =
        ValidateTokenResponse { verdict: verdict.into(), revision: answer.revision.0, ..Default::default() };
    if let Some(key) = &answer.key {
        response.key.clone_from(&key.resource_name);
        response.key_uid = key.uid.to_string();
        response.project = key.name.project.to_string();
        response.platform = key.platform.as_str().to_owned();
    }
    response
}
