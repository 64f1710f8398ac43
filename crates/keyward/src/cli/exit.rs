//! How a command ended, for scripts.

use std::borrow::Cow;
use std::fmt::{Display, Formatter};
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What `keyward help` says of exit codes.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  failed otherwise
  2  the command line, or a value in it, is not as it must be
  3  there is no such thing, or none that the member may see
  4  no credential, a wrong one, or one that may not do this
  5  the state of things forbids it: a name is taken, a key is protected
  6  not possible now, as when the admin cannot be reached: try again
  7  committed, but not known to be enforced everywhere yet: run it again
  8  `audit verify` found something";

/// A refusal by the admin.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Status);

/// `audit verify` has found something.
#[derive(Debug)]
pub(crate) struct NotIntact(pub(crate) i64);

impl Display for Refused {
    /// As a person wants to read it.
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.message())?;
        match self.0.get_details_error_info() {
            Some(info) => write!(f, " ({})", info.reason),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}

/// There is no credential that could be presented. Says why, and nothing of the credential.
#[derive(Debug)]
pub(crate) struct NoCredential(pub(crate) String);

impl Display for NoCredential {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoCredential {}

/// The command line says something that cannot be.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) Cow<'static, str>);

impl Display for Usage {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

impl Display for NotIntact {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "not intact: {} findings", self.0)
    }
}

impl std::error::Error for NotIntact {}

/// The exit code for an error.
pub(crate) fn code(error: &anyhow::Error) -> ExitCode {
    if error.is::<NotIntact>() {
        return ExitCode::from(8);
    }
    if error.is::<NoCredential>() {
        return ExitCode::from(4);
    }
    if error.is::<Usage>() {
        return ExitCode::from(2);
    }
    error.downcast_ref::<Refused>().map_or(ExitCode::FAILURE, |Refused(status)| ExitCode::from(of(status.code())))
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
