//! Which admin a command calls: the first one of its list that is reachable and ready.

use std::error::Error;
use std::fmt::Display;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cli::exit::Failure;

/// How long a connection to an admin may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an admin may take to report its health, before the next one is tried.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the first address whose admin reports that it is ready.
///
/// If no admin is ready, the first one that reports so is used, and its error explains the state. The only admin of a list is
/// used without a look at its health.
///
/// # Errors
/// [`Failure::Unreachable`] if no admin can be reached, with the cause for each one.
pub(super) async fn reach(admins: &[impl Display]) -> anyhow::Result<Channel> {
    let (mut not_ready, mut causes) = (None, Vec::new());
    for admin in admins {
        let endpoint = Endpoint::from_shared(admin.to_string())?.connect_timeout(CONNECT_TIMEOUT);
        match endpoint.connect().await {
            Ok(channel) if admins.len() == 1 => return Ok(channel),
            Ok(channel) => match is_ready(&channel).await {
                Some(true) => return Ok(channel),
                Some(false) => not_ready = not_ready.or(Some(channel)),
                None => causes.push(format!("{admin}: it does not report its health")),
            },
            Err(error) => causes.push(format!("{admin}{}", cause(&error))),
        }
    }
    not_ready.ok_or_else(|| {
        let admins = causes.join("; nor at ");
        Failure::Unreachable(format!("cannot reach the admin at {admins}; is `keyward serve` running?")).into()
    })
}

/// Returns `true` if the admin reports SERVING for the whole server; `None` if it does not answer.
async fn is_ready(admin: &Channel) -> Option<bool> {
    let mut health = HealthClient::new(admin.clone());
    let check = tokio::time::timeout(HEALTH_TIMEOUT, health.check(HealthCheckRequest::default())).await;
    check.ok()?.ok().map(|answer| answer.get_ref().status() == ServingStatus::Serving)
}

fn cause(error: &tonic::transport::Error) -> String {
    error.source().map(|source| format!(": {source}")).unwrap_or_default()
}
