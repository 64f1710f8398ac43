use std::sync::Arc;

use keyward_domain::{Expectation, ProjectId, TokenSources};

use crate::layer::unanswered::Unanswered;

/// What a layer requires of requests, and where it finds their tokens.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// The project that a key must belong to. `None` if keys of any project are accepted.
    pub(super) project: Option<ProjectId>,
    /// `true` if client keys (`kwc_…`) are accepted.
    pub(super) allow_client_keys: bool,
    pub(super) token_sources: TokenSources,
    pub(super) unanswered: Arc<Unanswered>,
}

impl Route {
    pub(super) fn expectation(&self) -> Expectation<'_> {
        Expectation { project: self.project.as_ref().map(ProjectId::as_str), allow_client_keys: self.allow_client_keys }
    }
}
