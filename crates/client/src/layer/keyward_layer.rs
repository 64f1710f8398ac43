use std::sync::Arc;

use keyward_domain::{ProjectId, TokenSources};
use tower::Layer;

use crate::address::ConfigError;
use crate::client::Client;
use crate::layer::route::Route;
use crate::layer::service::KeywardService;

/// Lets in only requests with a valid API key, and puts an [`ApiKey`](crate::ApiKey) into their extensions. It answers all other
/// requests itself: gRPC requests with a status, others with a problem (RFC 9457).
///
/// The layer removes the token and every header that begins with `x-keyward-` from the request. Nothing behind it can log the
/// token, or mistake a client's header for Keyward's.
#[derive(Clone, Debug)]
pub struct KeywardLayer {
    client: Client,
    route: Arc<Route>,
}

impl KeywardLayer {
    /// Requires a key of this project, given as a bare id. Example: `6666`.
    ///
    /// # Errors
    /// [`ConfigError::Project`]: the id is invalid.
    pub fn for_project(client: Client, project: &str) -> Result<Self, ConfigError> {
        let project = ProjectId::parse(project).map_err(|rule| ConfigError::Project(format!("project {rule}")))?;
        Ok(Self::new(client, Some(project)))
    }

    /// Accepts keys of ANY project, that is, of all customers. The handlers must check
    /// [`ApiKey::project`](crate::ApiKey::project).
    pub fn for_any_project(client: Client) -> Self {
        Self::new(client, None)
    }

    fn new(client: Client, project: Option<ProjectId>) -> Self {
        let (token_sources, unanswered) = (TokenSources::default(), Arc::default());
        Self { client, route: Arc::new(Route { project, allow_client_keys: false, token_sources, unanswered }) }
    }

    /// Accepts client keys (`kwc_…`) too, which are public. Default: they are refused.
    #[must_use]
    pub fn allow_client_keys(mut self) -> Self {
        Arc::make_mut(&mut self.route).allow_client_keys = true;
        self
    }

    /// Sets where requests carry tokens. Default: `authorization: Bearer …` and `x-api-key: …`.
    ///
    /// With a query parameter, put the layer around axum's `Router` (`layer.layer(router)`) and not into it. A router keeps the
    /// original URI, token included, for `OriginalUri`.
    #[must_use]
    pub fn token_sources(mut self, sources: TokenSources) -> Self {
        Arc::make_mut(&mut self.route).token_sources = sources;
        self
    }
}

impl<S> Layer<S> for KeywardLayer {
    type Service = KeywardService<S>;

    fn layer(&self, inner: S) -> KeywardService<S> {
        KeywardService::new(inner, self.client.clone(), Arc::clone(&self.route))
    }
}
