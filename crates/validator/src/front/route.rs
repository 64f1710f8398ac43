//! What a gateway's route asks of a token: its settings, which the gateway's operator wrote.

use keyward_domain::{Error, Expectation, OnField, ProjectId};

/// A route's settings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Route<'a> {
    pub(crate) expectation: Expectation<'a>,
    /// The gateway understands 2xx, 401 and 403 only.
    pub(crate) nginx: bool,
}

/// Reads settings: `project` (a bare id; absent: any), `allow_client_keys` (`true` or `false`; absent: false) and `mode`
/// (`nginx`; absent: every other gateway).
///
/// # Errors
/// `FIELD_INVALID`: an unknown setting is refused and not skipped, because a misspelt `project` would let every
/// project's keys in. One that is said twice is refused, because one of the two is not meant.
pub(crate) fn read<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Route<'a>, Error> {
    let (mut route, mut said) = (Route::default(), Vec::new());
    for (name, value) in settings {
        if said.contains(&name) {
            return Err(Error::field(name, "said once"));
        }
        said.push(name);
        match (name, value) {
            ("project", id) => route.expectation.project = Some(ProjectId::check(id).on_field("project")?),
            ("allow_client_keys", "true") => route.expectation.allow_client_keys = true,
            ("allow_client_keys", "false") => {}
            ("allow_client_keys", _) => return Err(Error::field("allow_client_keys", "true or false")),
            ("mode", "nginx") => route.nginx = true,
            ("mode", _) => return Err(Error::field("mode", "nginx, or absent")),
            (other, _) => {
                let rule = "absent: a route's settings are project, allow_client_keys and mode";
                return Err(Error::field(other, rule));
            }
        }
    }
    Ok(route)
}
