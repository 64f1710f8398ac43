//! Protection of the process's memory, which holds credentials, tokens and the keys of the keyring.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// The environment variable that disables [`protect`] when it is `1`, for debuggers.
pub const DEBUG: &str = "KEYWARD_ALLOW_DEBUGGING";

/// Protects the memory of this process from other processes and from the disk, unless [`DEBUG`] is `1`.
///
/// Sets `RLIMIT_CORE` to 0, soft and hard, and `PR_SET_DUMPABLE` to 0 (prctl(2)). A process that is not dumpable also writes
/// no core where `core_pattern` is a pipe, to which the limit does not apply. Other processes of the same user cannot attach
/// to it, and its files under `/proc/PID` belong to root. Call it before any secret is read.
///
/// # Errors
/// The operating system refuses a call.
pub fn protect() -> anyhow::Result<()> {
    if std::env::var_os(DEBUG).is_some_and(|value| value == "1") {
        return Ok(());
    }
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if getrlimit(Resource::Core) != none {
        setrlimit(Resource::Core, none).map_err(|error| anyhow::anyhow!("cannot forbid core files: {error}"))?;
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| anyhow::anyhow!("cannot make this process undumpable: {error}"))
}
