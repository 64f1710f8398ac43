//! Runs a transaction again after a conflict with a concurrent one.

use std::time::Duration;

use keyward_domain::Error;

use crate::error::{TxError, from_driver};

/// The number of attempts, including the first.
const ATTEMPTS: u32 = 5;

/// Runs `transaction` until it ends without a conflict, 5 times at most, with pauses of 10, 20, 40 and 80 ms between.
pub(crate) async fn retry<T, F>(transaction: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, TxError>>,
{
    let mut attempt = 1;
    loop {
        match transaction().await {
            Ok(done) => return Ok(done),
            Err(TxError::Answer(error)) => return Err(error),
            Err(TxError::Conflict(error)) if attempt >= ATTEMPTS => return Err(from_driver(error)),
            Err(TxError::Conflict(_)) => tokio::time::sleep(Duration::from_millis(5 << attempt)).await,
        }
        attempt += 1;
    }
}
