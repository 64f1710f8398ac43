//! Failures of the operator's commands, and the exit code of each.

use std::borrow::Cow;
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The exit codes, as `keyward help` lists them.
pub(crate) const HELP: &str = "\
Exit codes:
  0  success
  1  any other failure
  2  the command line, or a value in it, is invalid
  3  not found, or not visible to the member
  4  no credential, an invalid one, or a missing permission
  5  the current state forbids it: a name is taken, a key is protected
  6  unavailable, such as when the admin cannot be reached: try again
  7  committed, but not known to be enforced everywhere yet: run it again
  8  `audit verify` found a problem";

/// A failure with a specific exit code. Its text never holds a token or a credential.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The admin answered with an error.
    #[error("{}", refusal(.0))]
    Refused(Status),
    /// No connection to the admin could be made.
    #[error("{0}")]
    Unreachable(String),
    /// The admin's answer does not contain what the command asks for.
    #[error("{0}")]
    NotFound(String),
    /// There is no credential to present.
    #[error("{0}")]
    NoCredential(String),
    /// The command line is invalid.
    #[error("{0}")]
    Usage(Cow<'static, str>),
    /// `audit verify` has found this many problems.
    #[error("not intact: {0} findings")]
    NotIntact(i64),
}

/// The message of a status, with the reason of its ErrorInfo.
fn refusal(status: &Status) -> String {
    match status.get_details_error_info() {
        Some(info) => format!("{} ({})", status.message(), info.reason),
        None => status.message().to_owned(),
    }
}

/// The exit code for an error.
pub(crate) fn code(error: &anyhow::Error) -> ExitCode {
    let Some(failure) = error.downcast_ref() else { return ExitCode::FAILURE };
    ExitCode::from(match failure {
        Failure::Refused(status) => of(status.code()),
        Failure::Usage(_) => 2,
        Failure::NotFound(_) => 3,
        Failure::NoCredential(_) => 4,
        Failure::Unreachable(_) => 6,
        Failure::NotIntact(_) => 8,
    })
}

const fn of(code: Code) -> u8 {
    match code {
        Code::InvalidArgument | Code::OutOfRange => 2,
        Code::NotFound => 3,
        Code::Unauthenticated | Code::PermissionDenied => 4,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => 5,
        Code::Unavailable | Code::ResourceExhausted => 6,
        Code::DeadlineExceeded => 7,
        _ => 1,
    }
}
