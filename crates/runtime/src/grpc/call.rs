use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyward_domain::Error;
use tonic::Status;

use crate::budget::Full;
use crate::connections::{ConnectionState, RequestInProgress};
use crate::status;

/// The status of a call that finds no memory.
pub(super) fn refusal(_: Full) -> Status {
    status::from_error(&Error::overloaded())
}

/// A call in progress, and the memory that it holds. Its bodies share it.
#[derive(Debug)]
pub(super) struct Call {
    request: RequestInProgress,
    held: AtomicUsize,
}

impl Call {
    pub(super) fn begin(connection: &Arc<ConnectionState>, price: usize) -> Result<Self, Full> {
        let request = connection.begin();
        connection.budget().take(price)?;
        Ok(Self { request, held: AtomicUsize::new(price) })
    }

    /// Holds `bytes` more until the call ends.
    pub(super) fn grow(&self, bytes: usize) -> Result<(), Full> {
        self.request.connection().budget().take(bytes)?;
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The request, as its connection counts it.
    pub(super) const fn request(&self) -> &RequestInProgress {
        &self.request
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.request.connection().budget().give_back(*self.held.get_mut());
    }
}
