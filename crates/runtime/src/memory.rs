//! What of this process's memory may leave it: credentials, tokens and keys of the keyring stand there.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// The environment variable that keeps [`protect`] from acting, for debuggers: `1`.
pub const DEBUG: &str = "KEYWARD_ALLOW_DEBUGGING";

/// Keeps the memory of this process from other processes and from the disk, unless [`DEBUG`] is `1`: no core file
/// (`RLIMIT_CORE` 0, soft and hard), and not dumpable (`PR_SET_DUMPABLE` 0, prctl(2)). A process that is not dumpable writes
/// no core either where `core_pattern` is a pipe, which the limit alone does not stop; no other process of the same user can
/// attach to it; and its files under `/proc/PID` belong to root. To be called before a secret is read.
///
/// # Errors
/// The operating system refuses.
pub fn protect() -> anyhow::Result<()> {
    if std::env::var_os(DEBUG).is_some_and(|value| value == "1") {
        return Ok(());
    }
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if getrlimit(Resource::Core) != none {
        setrlimit(Resource::Core, none).map_err(|error| anyhow::anyhow!("cannot forbid core files: {error}"))?;
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| anyhow::anyhow!("cannot keep this process from being dumped: {error}"))
}
