use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Bytes, Frame, SizeHint};
use keyward_domain::Error;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use super::call::{Call, refusal};
use super::method::Method;
use crate::status;

/// How long a client may take to send a message that it has begun, and the message of a method that takes one.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Length up to which the message that is being received is part of the price of its call.
const SMALL: usize = 2 << 10;

/// Length of the prefix of a message (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// The body of a request: holds the memory of what has arrived of a message, and bounds the time in which a message arrives.
pub(super) struct RequestBody {
    body: Body,
    call: Arc<Call>,
    method: Method,
    message: Message,
    /// Bytes that the call holds for messages: as many as the longest one so far had at a time.
    held: usize,
    /// Runs while a message is awaited.
    timeout: Option<Pin<Box<Sleep>>>,
}

/// How far the message that is being received has come.
#[derive(Debug, Default)]
struct Message {
    prefix: [u8; PREFIX],
    /// Bytes that have arrived, with the prefix.
    arrived: usize,
    /// Bytes that are missing, once the prefix is complete.
    missing: usize,
}

impl Message {
    /// Takes the bytes of a frame. Returns `true` if a message was completed.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut completed = false;
        while !bytes.is_empty() {
            let part = if self.arrived < PREFIX {
                let (part, _) = bytes.split_at(bytes.len().min(PREFIX - self.arrived));
                self.prefix[self.arrived..self.arrived + part.len()].copy_from_slice(part);
                if self.arrived + part.len() == PREFIX {
                    let [_, length @ ..] = self.prefix;
                    self.missing = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                }
                part.len()
            } else {
                let part = bytes.len().min(self.missing);
                self.missing -= part;
                part
            };
            bytes = bytes.split_at(part).1;
            self.arrived += part;
            if self.arrived >= PREFIX && self.missing == 0 {
                self.arrived = 0;
                completed = true;
            }
        }
        completed
    }

    /// Returns `true` while a message has begun and is not complete.
    const fn is_open(&self) -> bool {
        self.arrived > 0
    }
}

impl RequestBody {
    pub(super) fn new(body: Body, call: Arc<Call>, method: Method) -> Self {
        Self { body, call, method, message: Message::default(), held: SMALL, timeout: None }
    }

    /// Counts the bytes of a frame. Each message has a time limit of its own, which begins with it.
    fn receive(&mut self, data: &[u8]) -> Result<(), Status> {
        let buffered = self.message.arrived + data.len();
        if self.message.take(data) {
            self.timeout = None;
        }
        if buffered > self.held && self.method.counts_requests() {
            self.call.grow(buffered - self.held).map_err(refusal)?;
            self.held = buffered;
        }
        Ok(())
    }

    /// Resolves when the message that is awaited is late.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if !self.message.is_open() && self.method.may_wait() {
            return Poll::Pending;
        }
        let timeout = self.timeout.get_or_insert_with(|| Box::pin(tokio::time::sleep(MESSAGE_TIMEOUT)));
        ready!(timeout.as_mut().poll(cx));
        let fault = format!("it did not arrive within {} s", MESSAGE_TIMEOUT.as_secs());
        Poll::Ready(status::from_error(&Error::request_unreadable(&fault)))
    }
}

impl hyper::body::Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if self.timeout.is_some() {
                    self.call.request().moved();
                }
                if let Some(data) = frame.data_ref()
                    && let Err(refused) = self.receive(data)
                {
                    return Poll::Ready(Some(Err(refused)));
                }
                polled
            }
            Poll::Pending => self.poll_late(cx).map(|late| Some(Err(late))),
            Poll::Ready(_) => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_their_bytes_are_cut() {
        let stream = [&[0, 0, 0, 0, 3, 1, 2, 3][..], &[0, 0, 0, 0, 0], &[0, 0, 0, 1, 0, 9]].concat();
        for size in 1..=stream.len() {
            let mut message = Message::default();
            let completed = stream.chunks(size).filter(|part| message.take(part)).count();
            assert!((1..=2).contains(&completed), "{size}");
            assert_eq!((message.arrived, message.missing, message.is_open()), (6, 255, true), "{size}");
        }
    }

    #[test]
    fn only_a_whole_message_completes_a_message() {
        let mut message = Message::default();
        assert!(!message.take(&[0, 0, 0, 0]) && !message.take(&[2, 7]) && message.is_open());
        assert!(message.take(&[7]) && !message.is_open());
        assert!(message.take(&[0, 0, 0, 0, 0]) && !message.is_open());
    }
}
