//! How the file descriptors of this process, and the memory for messages, are divided among its listeners, so that connections to
//! one listener never keep another from accepting or answering, nor the process from opening its database.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::connections::ConnectionLimits;

/// Descriptors that are not used for accepted connections: the database's pools (at most 19 connections, or three files for each
/// of SQLite's), connections to other processes, listeners, logs and files with secrets.
const RESERVED: usize = 160;

/// The most connections of an ops listener. Probes and scrapers need few.
const OPS: usize = 64;

/// The least that a listener gets, however few descriptors there are.
const LEAST: usize = 8;

/// The limits of the listeners of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListenerLimits {
    /// Of each listener for the admin API, for the validator's gRPC and for the HTTP hook.
    pub service: ConnectionLimits,
    /// Of each ops listener.
    pub ops: ConnectionLimits,
}

/// The listeners of a process.
#[derive(Clone, Copy, Debug)]
pub struct ListenerCounts {
    /// Listeners for gRPC.
    pub grpc: usize,
    /// HTTP hooks.
    pub hooks: usize,
    /// Ops listeners.
    pub ops: usize,
}

/// Raises the soft limit of open files to the hard limit, and divides the descriptors among the listeners, with `limits` for each
/// listener that is not for ops. The memory for messages is divided evenly among the listeners for gRPC. Logs a warning if the
/// limit of open files lowers the number of connections.
pub fn divide(limits: ConnectionLimits, listeners: ListenerCounts) -> ListenerLimits {
    let ListenerCounts { grpc, hooks, ops } = listeners;
    let files = raise();
    let share = share(files, grpc + hooks, ops);
    let message_memory = limits.message_memory / grpc.max(1);
    let service = ConnectionLimits { most: limits.most.min(share), message_memory, ..limits };
    if service.most < limits.most {
        tracing::warn!(
            files,
            max_connections = limits.most,
            effective = service.most,
            "the limit of open files allows fewer connections to each listener than --max-connections"
        );
    }
    ListenerLimits { service, ops: limits.with_most(OPS.min(share)) }
}

/// How many connections each service listener may have if the process may open `files` files.
fn share(files: usize, services: usize, ops: usize) -> usize {
    (files.saturating_sub(RESERVED + ops * OPS) / services.max(1)).max(LEAST)
}

/// Raises the soft limit of open files to the hard limit, and returns the limit that applies.
fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let hard = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // A failure leaves the soft limit, which is then the one to divide.
    let applies = if setrlimit(Resource::Nofile, hard).is_ok() { limit.maximum } else { limit.current };
    applies.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_listeners_together_leave_the_reserved_descriptors_free() {
        for (files, services, ops) in [(1_024, 3, 2), (1_024, 1, 1), (65_536, 2, 1)] {
            let used = share(files, services, ops) * services + ops * OPS;
            assert!(used + RESERVED <= files && used > files / 2, "{used} of {files}");
        }
        assert_eq!(share(100, 3, 2), LEAST);
    }
}
