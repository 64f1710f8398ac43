use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use tower::{Layer, Service};

use crate::connections::{ConnectionState, RequestInProgress};

/// Counts the calls of each connection, so that the listener knows which connections are in use.
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

impl<S, B, R> Service<Request<B>> for CallService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<Held<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Absent for connections that no listener accepted: those of simulations and of the same process.
        let call = request.extensions().get::<Arc<ConnectionState>>().map(ConnectionState::begin);
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Held { body, call })) })
    }
}

/// A response body that keeps its request in progress until it is dropped.
#[derive(Debug)]
pub struct Held<B> {
    body: B,
    call: Option<RequestInProgress>,
}

impl<B> Held<B> {
    /// `call`: the request that this is the response to. `None` if its connection is not counted.
    pub const fn new(body: B, call: Option<RequestInProgress>) -> Self {
        Self { body, call }
    }
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let (Poll::Ready(Some(_)), Some(call)) = (&polled, &self.call) {
            call.moved();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
