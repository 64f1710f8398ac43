use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response, header};
use keyward_domain::Error;
use keyward_runtime::status;
use tonic::{Code, Status};
use tower::Service;

use crate::app::App;
use crate::auth::access::{self, Access};
use crate::auth::caller::Caller;

/// Authenticates each call, refuses it if the table of access does, and counts calls by method and code.
#[derive(Clone, Debug)]
pub(crate) struct AuthService<S> {
    pub(super) app: Arc<App>,
    pub(super) inner: S,
}

impl<S, B, R> Service<Request<B>> for AuthService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let app = Arc::clone(&self.app);
        // Call the clone that was polled ready (tower's documentation, "Be careful when cloning inner services").
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            match admit(&app, &path, request.headers()).await {
                Ok(caller) => {
                    if let Some(caller) = caller {
                        request.extensions_mut().insert(caller);
                    }
                    let response = inner.call(request).await?;
                    app.metrics.call(label(&path), code_of(&response));
                    Ok(response)
                }
                Err(error) => {
                    let status = status::from_error(&error);
                    app.metrics.call(label(&path), status.code());
                    Ok(status.into_http())
                }
            }
        })
    }
}

/// Returns the caller if the table lets it call the method; `None` if the method needs no credential.
async fn admit(app: &App, path: &str, headers: &HeaderMap) -> Result<Option<Caller>, Error> {
    let permission = match access::of(path) {
        Some(Access::Anyone) => return Ok(None),
        Some(Access::Needs(permission)) => Some(permission),
        Some(Access::AnyMember) | None => None,
    };
    let caller = app.authenticate(credential(headers)?, permission).await?;
    if access::of(path).is_none() {
        return Err(Error::permission_denied("of a method that is listed"));
    }
    Ok(Some(caller))
}

/// The credential of `authorization: Bearer …` (RFC 6750 §2.1), given exactly once.
fn credential(headers: &HeaderMap) -> Result<&str, Error> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(Error::credential_missing()) };
    let text = value.to_str().map_err(|_| Error::credential_invalid())?;
    match text.split_once(' ') {
        Some((scheme, credential)) if scheme.eq_ignore_ascii_case("bearer") => Ok(credential.trim()),
        _ => Err(Error::credential_missing()),
    }
}

/// A method's name for metrics. All unlisted methods share one, so that callers cannot create labels.
fn label(path: &str) -> &str {
    if access::of(path).is_some() { path.trim_start_matches('/') } else { "unlisted" }
}

/// The code of a response. A call that fails before its first message has its status in the response's headers; all others have
/// it in the trailers, and count as OK.
fn code_of<R>(response: &Response<R>) -> Code {
    Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
}
