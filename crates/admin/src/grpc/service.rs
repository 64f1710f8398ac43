//! What the services of the admin API share: running a handler, and the macro that makes a service of handlers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use keyward_domain::Error;
use keyward_runtime::{deadline, status};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::app::App;
use crate::auth::{Caller, caller_of};

/// A call that is ready for its handler.
pub(super) struct Incoming<Q> {
    /// The member that calls, as read from the database after the message arrived.
    pub(super) caller: Caller,
    /// How long the caller waits for the answer (`grpc-timeout`); `None` if it did not set a deadline.
    pub(super) timeout: Option<Duration>,
    pub(super) message: Q,
}

/// Runs a handler in a task of its own, so that a caller that hangs up cancels neither the commit nor the fence after it.
pub(super) async fn run<Q, T, F>(
    app: Arc<App>,
    request: Request<Q>,
    handler: impl FnOnce(Arc<App>, Incoming<Q>) -> F + Send + 'static,
) -> Result<Response<T>, Status>
where
    Q: Send + 'static,
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send,
{
    let work = async move {
        // The message may have arrived long after the headers that the layer authenticated.
        let caller = app.refresh(&caller_of(&request)?).await?;
        let timeout = deadline::of(request.metadata());
        handler(app, Incoming { caller, timeout, message: request.into_inner() }).await
    };
    let (sender, answer) = oneshot::channel();
    // Boxed, with the answer sent through a channel: a task that is generic over the method would make rustc compile tokio's
    // task code once for each method, which is a fifth of this crate's code.
    let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        // Sending fails if the caller has disconnected.
        let _ = sender.send(work.await);
    });
    let task = tokio::spawn(task);
    match answer.await {
        Ok(Ok(answer)) => Ok(Response::new(answer)),
        Ok(Err(error)) => Err(status::from_error(&error)),
        // The handler panicked before it sent an answer, or the runtime is shutting down.
        Err(_) => {
            let reason = task.await.err().map_or_else(|| "no answer".to_owned(), |panicked| panicked.to_string());
            Err(status::from_error(&Error::internal(format!("a handler panicked: {reason}"))))
        }
    }
}

/// Implements a generated service trait with one handler function a method. The handlers have the names of the methods and
/// stand in the same file.
macro_rules! service {
    ($(#[$doc:meta])* $api:ident: $service:ident { $($method:ident: $request:ident -> $response:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $api(pub(crate) ::std::sync::Arc<$crate::app::App>);

        #[tonic::async_trait]
        impl $service for $api {
            $(
                async fn $method(
                    &self,
                    request: ::tonic::Request<$request>,
                ) -> Result<::tonic::Response<$response>, ::tonic::Status> {
                    $crate::grpc::service::run(::std::sync::Arc::clone(&self.0), request, $method).await
                }
            )*
        }
    };
}

pub(super) use service;
