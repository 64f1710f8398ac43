use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use super::call::{Call, refusal};
use super::method::Method;
use super::request_body::RequestBody;
use super::response_body::ResponseBody;
use crate::connections::ConnectionState;

/// Length up to which the headers of a call are part of its price.
const SMALL_HEADERS: usize = 1 << 10;

/// Counts the calls of each connection, holds the memory of their messages in the connection's budget, and bounds the time in which
/// a message arrives. A call that finds no memory is refused with `OVERLOADED`.
#[derive(Clone, Copy, Debug)]
pub struct CallLayer;

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService { inner }
    }
}

/// The service of [`CallLayer`].
#[derive(Clone, Debug)]
pub struct CallService<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Absent for connections that no listener accepted: those of simulations and of the same process.
        let Some(connection) = request.extensions().get::<Arc<ConnectionState>>() else {
            return Box::pin(self.inner.call(request));
        };
        let method = Method::of(request.uri().path());
        let price = method.price() + length(&request).saturating_sub(SMALL_HEADERS);
        let call = match Call::begin(connection, price) {
            Ok(call) => Arc::new(call),
            Err(full) => return Box::pin(std::future::ready(Ok(refusal(full).into_http()))),
        };
        let held = Arc::clone(&call);
        let answer = self.inner.call(request.map(|body| Body::new(RequestBody::new(body, held, method))));
        Box::pin(async move { Ok(answer.await?.map(|body| Body::new(ResponseBody::new(body, call, method)))) })
    }
}

/// Bytes of the path and of the headers.
fn length(request: &Request<Body>) -> usize {
    let fields: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    request.uri().path().len() + fields
}
