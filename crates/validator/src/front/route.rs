//! The settings of a gateway's route, which the gateway's operator wrote: what a token must fulfil.

use keyward_domain::{Error, Expectation, OnField, ProjectId};

/// The settings of a route.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Route<'a> {
    pub(crate) expectation: Expectation<'a>,
    /// `true` if the gateway is nginx, which understands 2xx, 401 and 403 only.
    pub(crate) nginx: bool,
}

/// Parses settings: `project` (a bare id; default: any project), `allow_client_keys` (`true` or `false`; default: `false`) and
/// `mode` (`nginx`; default: any other gateway).
///
/// # Errors
/// `FIELD_INVALID`: an unknown, repeated or invalid setting. An unknown setting is not ignored, because a misspelt `project`
/// would let in the keys of every project.
pub(crate) fn read<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Route<'a>, Error> {
    let (mut route, mut seen) = (Route::default(), Vec::new());
    for (name, value) in settings {
        if seen.contains(&name) {
            return Err(Error::field(name, "given once"));
        }
        seen.push(name);
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
