use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::HeaderMap;
use hyper::body::{Bytes, Frame, SizeHint};
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::body::Body;

use super::call::{Call, refusal};
use super::method::Method;

/// Length up to which a part of an answer is part of the price of its call.
const SMALL: usize = 2 << 10;

/// Length up to which a part of an answer is sent whatever memory it finds: the answer of a change that was committed must not be
/// withheld. Answers of methods that change something are smaller.
const NEVER_REFUSED: usize = 16 << 10;

/// How long a client may take to read a part of an answer. A connection on which it takes longer is closed, because nothing else
/// frees what the transport has taken.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The body of a response. Its call is in progress, and its bytes are held in the connection's budget, until they are written to
/// the socket, however many copies of the buffers there are in between.
pub(super) struct ResponseBody {
    body: Body,
    call: Arc<Call>,
    method: Method,
    /// `true` if the next part was not there when it was asked for.
    waited: bool,
    refused: bool,
}

impl ResponseBody {
    pub(super) const fn new(body: Body, call: Arc<Call>, method: Method) -> Self {
        Self { body, call, method, waited: false, refused: false }
    }

    /// Holds the bytes of a part of the answer until they are written.
    fn hold(&self, bytes: Bytes) -> Result<Bytes, Status> {
        let call = Arc::clone(&self.call);
        let unread = if bytes.len() > SMALL { Some(Unread::new(&self.call, bytes.len())?) } else { None };
        Ok(Bytes::from_owner(Held { bytes, _call: call, _unread: unread }))
    }
}

/// Bytes of an answer, and what they hold.
struct Held {
    bytes: Bytes,
    _call: Arc<Call>,
    _unread: Option<Unread>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Memory of a part of an answer that is not written yet, and the time limit for it.
struct Unread {
    call: Arc<Call>,
    bytes: usize,
    timeout: AbortHandle,
}

impl Unread {
    fn new(call: &Arc<Call>, bytes: usize) -> Result<Self, Status> {
        let connection = call.request().connection();
        if bytes > NEVER_REFUSED {
            connection.budget().take(bytes).map_err(refusal)?;
        } else {
            connection.budget().take_regardless(bytes);
        }
        let unread = Arc::clone(connection);
        let timeout = tokio::spawn(async move {
            tokio::time::sleep(READ_TIMEOUT).await;
            unread.close_unread();
        });
        Ok(Self { call: Arc::clone(call), bytes, timeout: timeout.abort_handle() })
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.timeout.abort();
        self.call.request().connection().budget().give_back(self.bytes);
    }
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.refused {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        // The clock is read only for answers that take time: the beginning and the end of a call count as movements already.
        if std::mem::replace(&mut self.waited, polled.is_pending()) && polled.is_ready() {
            self.call.request().moved();
        }
        let Some(frame) = ready!(polled) else { return Poll::Ready(None) };
        let frame = match frame?.into_data() {
            Ok(bytes) if self.method.counts_answers() => self.hold(bytes).map_or_else(
                |refused| {
                    self.refused = true;
                    Frame::trailers(trailers(refused))
                },
                Frame::data,
            ),
            Ok(bytes) => Frame::data(bytes),
            Err(trailers) => trailers,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.refused || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // The exact length would become a content-length, with which a refusal cannot follow.
        if self.body.is_end_stream() { self.body.size_hint() } else { SizeHint::default() }
    }
}

/// A status as the trailers of a response.
fn trailers(status: Status) -> HeaderMap {
    let mut trailers = status.into_http::<()>().into_parts().0.headers;
    trailers.remove(http::header::CONTENT_TYPE);
    trailers
}
