use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body_util::{Either, Full};
use keyward_domain::{Presented, Refusal, Verdict};
use tonic::server::NamedService;
use tower::Service;

use crate::api_key::ApiKey;
use crate::client::Client;
use crate::layer::credential;
use crate::layer::refuse::{Bytes, refuse};
use crate::layer::route::Route;

/// A service behind a [`KeywardLayer`](crate::KeywardLayer).
#[derive(Clone, Debug)]
pub struct KeywardService<S> {
    inner: S,
    client: Client,
    route: Arc<Route>,
}

impl<S> KeywardService<S> {
    pub(super) const fn new(inner: S, client: Client, route: Arc<Route>) -> Self {
        Self { inner, client, route }
    }
}

impl<S: NamedService> NamedService for KeywardService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<Request<B>> for KeywardService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Either<R, Full<Bytes>>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // `poll_ready` was called on this instance, so the future takes it and leaves a clone.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let (client, route) = (self.client.clone(), Arc::clone(&self.route));
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let decided = decide(&client, &route, &parts).await;
            request = Request::from_parts(parts, body);
            match decided {
                Ok(key) => {
                    credential::strip(&mut request, &route.token_sources);
                    request.extensions_mut().insert(key);
                    Ok(inner.call(request).await?.map(Either::Left))
                }
                Err(refusal) => Ok(refuse(&refusal, request.headers()).map(Either::Right)),
            }
        })
    }
}

/// Returns the key of a request, or why it is refused. A request without a token is refused without calling a validator.
async fn decide(client: &Client, route: &Route, request: &http::request::Parts) -> Result<ApiKey, Refusal> {
    let presented = credential::find(request, &route.token_sources);
    let Presented::One(token) = presented else {
        return Err(Refusal::of(&presented, Verdict::Malformed).unwrap_or(Refusal::INVALID));
    };
    match client.validate(token, &route.expectation()).await {
        Ok(validation) => match (Refusal::of(&presented, validation.verdict), validation.key) {
            (None, Some(key)) => Ok(key),
            (refusal, _) => Err(refusal.unwrap_or(Refusal::UNAVAILABLE)),
        },
        Err(unavailable) => {
            route.unanswered.note(unavailable);
            Err(Refusal::UNAVAILABLE)
        }
    }
}
