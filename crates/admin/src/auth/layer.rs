use std::sync::Arc;

use tower::Layer;

use crate::app::App;
use crate::auth::service::AuthService;

/// Wraps the gRPC services in [`AuthService`].
#[derive(Clone, Debug)]
pub(crate) struct AuthLayer(pub(crate) Arc<App>);

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService { app: Arc::clone(&self.0), inner }
    }
}
