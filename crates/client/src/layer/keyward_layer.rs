use std::sync::Arc;

use keyward_domain::{TokenSources, ProjectId};
use tower::Layer;

use crate::address::ConfigError;
use crate::client::Client;
use crate::layer::route::Route;
use crate::layer::service::KeywardService;

/// Lets through only requests with a valid API key, with an [`ApiKey`](crate::ApiKey) in their extensions, and answers all
/// others itself: as HTTP with a problem (RFC 9457), and as gRPC with a status where the request is gRPC.
///
/// What carried the token, and whatever the client sent under a name that begins with `x-keyward-`, is taken from the
/// request, so that nothing behind the layer can log it or believe it.
#[derive(Clone, Debug)]
pub struct KeywardLayer {
    client: Client,
    route: Arc<Route>,
}

impl KeywardLayer {
    /// Asks for a key of this project, given as a bare id. Example: `6666`.
    ///
    /// # Errors
    /// [`ConfigError::Project`]: no project can have that id.
    pub fn for_project(client: Client, project: &str) -> Result<Self, ConfigError> {
        let project = ProjectId::parse(project).map_err(|rule| ConfigError::Project(format!("project {rule}")))?;
        Ok(Self::new(client, Some(project)))
    }

    /// Lets in keys of ANY project: of every customer there is. What is behind the layer must then go by
    /// [`ApiKey::project`](crate::ApiKey::project).
    pub fn for_any_project(client: Client) -> Self {
        Self::new(client, None)
    }

    fn new(client: Client, project: Option<ProjectId>) -> Self {
        let (places, unanswered) = (TokenSources::default(), Arc::default());
        Self { client, route: Arc::new(Route { project, allow_client_keys: false, places, unanswered }) }
    }

    /// Lets in client keys (`kwc_…`) too, which the world can read. Default: they are refused.
    #[must_use]
    pub fn allow_client_keys(mut self) -> Self {
        Arc::make_mut(&mut self.route).allow_client_keys = true;
        self
    }

    /// Where requests carry tokens. Default: `authorization: Bearer …` and `x-api-key: …`. With a query parameter put the layer
    /// around axum's `Router` (`layer.layer(router)`) and not into it: a router keeps the address as it came, token included,
    /// for `OriginalUri`.
    #[must_use]
    pub fn places(mut self, places: TokenSources) -> Self {
        Arc::make_mut(&mut self.route).places = places;
        self
    }
}

impl<S> Layer<S> for KeywardLayer {
    type Service = KeywardService<S>;

    fn layer(&self, inner: S) -> KeywardService<S> {
        KeywardService::new(inner, self.client.clone(), Arc::clone(&self.route))
    }
}
