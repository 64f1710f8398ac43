//! What a gateway's route asks of a token: its settings, which the gateway's operator wrote.

use keyward_domain::{Error, Expectation, ProjectId};

/// A route's settings: `project` (a bare id; absent: any) and `allow_client_keys` (`true` or `false`; absent: false).
///
/// # Errors
/// `FIELD_INVALID`: an unknown setting is refused and not skipped, because a misspelt `project` would let every
/// project's keys in.
pub(crate) fn expectation<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Expectation<'a>, Error> {
    let mut expectation = Expectation::default();
    for (name, value) in settings {
        match (name, value) {
            ("project", id) => expectation.project = Some(ProjectId::check("project", id)?),
            ("allow_client_keys", "true") => expectation.allow_client_keys = true,
            ("allow_client_keys", "false") => expectation.allow_client_keys = false,
            ("allow_client_keys", _) => return Err(Error::field("allow_client_keys", "true or false")),
            (other, _) => {
                return Err(Error::field(other, "absent: a route's settings are project and allow_client_keys"));
            }
        }
    }
    Ok(expectation)
}
