//! Reads files that may hold a secret. The read is bounded, never blocks on a FIFO, and checks which other users can read or
//! replace the file. All such files are read here.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use zeroize::Zeroizing;

/// Largest file, in bytes: 1 MiB. A keyring needs a few hundred bytes per key.
const LARGEST: usize = 1 << 20;

/// What a file holds. It determines which other users may have access.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holds {
    /// The keyring. Its reader can forge the audit log, and unseal the tokens of a stolen database. Refused if other users or
    /// its group have any access, or if it belongs to another user. One exception, because container platforms mount secrets
    /// like this: a file that belongs to root and is readable by its group is accepted with a warning.
    Keyring,
    /// A credential, or a URL with a password. Refused if other users have any access or if its group may write. Accepted with
    /// a warning if its group may read it, or if it belongs to another user.
    Secret,
    /// Settings without a secret. Access is not checked.
    Settings,
}

/// A file that was read.
pub struct SecretFile {
    /// The content; wiped from memory when dropped.
    pub text: Zeroizing<String>,
    /// Access that the operator should restrict, although the file is accepted.
    pub warning: Option<String>,
}

/// Why a file was refused. Holds its path, never its content.
#[derive(Debug)]
pub struct SecretFileError {
    path: PathBuf,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Io(io::Error),
    NotAFile(&'static str),
    TooLarge,
    NotText,
    Mode { mode: u32, mend: u32, who: &'static str },
    Owner { owner: u32, process: u32 },
}

/// Reads a whole file. Follows symbolic links; the checks apply to the target.
///
/// # Errors
/// [`SecretFileError`]: the file does not exist, is not a regular file, is too large, is not UTF-8, or is accessible to other
/// users.
pub fn read(path: &Path, holds: Holds) -> Result<SecretFile, SecretFileError> {
    let failed = |cause| SecretFileError { path: path.to_owned(), cause };
    // Without O_NONBLOCK, opening a FIFO waits for a writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| failed(not_opened(path, error)))?;
    // Of the open file, because another one may have its path by now.
    let metadata = file.metadata().map_err(|error| failed(Cause::Io(error)))?;
    if let Some(kind) = special(&metadata) {
        return Err(failed(Cause::NotAFile(kind)));
    }
    let warning = check_access(path, &metadata, holds).map_err(failed)?;
    let text = read_bounded(file, metadata.len()).map_err(failed)?;
    Ok(SecretFile { text, warning })
}

/// Reads a file with [`read`], and logs its warning.
///
/// # Errors
/// Those of [`read`].
pub fn read_logged(path: &Path, holds: Holds) -> Result<Zeroizing<String>, SecretFileError> {
    let SecretFile { text, warning } = read(path, holds)?;
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    Ok(text)
}

/// Returns a function that reads a secret anew each time, for secrets that change while the process runs. It logs a warning
/// only if it differs from the previous one. Its errors are those of [`read`], as text.
pub fn rereader(path: &Path) -> impl Fn() -> Result<Zeroizing<String>, String> + Send + Sync + 'static {
    let (path, last) = (path.to_owned(), Mutex::new(None));
    move || {
        let SecretFile { text, warning } = read(&path, Holds::Secret).map_err(|error| error.to_string())?;
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(warning) = warning.as_ref().filter(|warning| last.as_ref() != Some(*warning)) {
            tracing::warn!("{warning}");
        }
        *last = warning;
        Ok(text)
    }
}

/// Explains why a file could not be opened. For a socket, the text of the operating system would be misleading.
fn not_opened(path: &Path, error: io::Error) -> Cause {
    match std::fs::metadata(path).ok().as_ref().and_then(special) {
        Some(kind) => Cause::NotAFile(kind),
        None => Cause::Io(error),
    }
}

/// Returns the name of the file type, or `None` for a regular file.
fn special(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

/// Checks which other users have access. Returns a warning, or why the file must not be used.
fn check_access(path: &Path, metadata: &Metadata, holds: Holds) -> Result<Option<String>, Cause> {
    let (mode, owner, process) = (metadata.mode() & 0o7777, metadata.uid(), geteuid().as_raw());
    let (path, readable_by_group) = (path.display(), mode & 0o040 != 0);
    let of_another = owner != process && owner != 0;
    match holds {
        Holds::Settings => return Ok(None),
        Holds::Keyring | Holds::Secret if mode & 0o007 != 0 => {
            return Err(Cause::Mode { mode, mend: 0o600, who: "every user of this machine" });
        }
        Holds::Keyring | Holds::Secret if mode & 0o030 != 0 => {
            return Err(Cause::Mode { mode, mend: 0o600, who: "its group" });
        }
        Holds::Keyring if of_another => return Err(Cause::Owner { owner, process }),
        // A file of root in a container is accepted: the process has no other access to it.
        Holds::Keyring if readable_by_group && (owner == process || process == 0) => {
            return Err(Cause::Mode { mode, mend: 0o600, who: "its group" });
        }
        Holds::Keyring | Holds::Secret => {}
    }
    if readable_by_group {
        return Ok(Some(format!("{path} has mode {mode:04o}, so that its group can read it: chmod 600 {path}")));
    }
    // A process of root may read the files of a service's user.
    let foreign = of_another && process != 0;
    Ok(foreign.then(|| format!("{path} belongs to user {owner}, who can change it, and not to user {process}")))
}

fn read_bounded(file: File, length: u64) -> Result<Zeroizing<String>, Cause> {
    // Allocate all of it at once: a growing buffer would leave unwiped copies behind.
    let room = usize::try_from(length).unwrap_or(LARGEST).min(LARGEST) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(room as u64).read_to_end(&mut bytes).map_err(Cause::Io)?;
    if bytes.len() > LARGEST {
        return Err(Cause::TooLarge);
    }
    if std::str::from_utf8(&bytes).is_err() {
        return Err(Cause::NotText);
    }
    // UTF-8 is checked above. This reuses the allocation.
    Ok(Zeroizing::new(String::from_utf8(std::mem::take(&mut *bytes)).unwrap_or_default()))
}

// === impl SecretFile ===

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFile").field("warning", &self.warning).finish_non_exhaustive()
    }
}

// === impl SecretFileError ===

impl SecretFileError {
    /// Returns `true` if the file does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(&self.cause, Cause::Io(error) if error.kind() == ErrorKind::NotFound)
    }
}

impl fmt::Display for SecretFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.cause {
            Cause::Io(error) => write!(f, "cannot read {path}: {error}"),
            Cause::NotAFile(kind) => write!(f, "{path} is {kind}; it must be a regular file"),
            Cause::TooLarge => write!(f, "{path} is larger than {LARGEST} bytes"),
            Cause::NotText => write!(f, "{path} is not UTF-8 text"),
            Cause::Mode { mode, mend, who } => write!(
                f,
                "{path} has mode {mode:04o}, so that {who} has access to the secret in it; only its owner may have \
                 access: chmod {mend:o} {path}"
            ),
            Cause::Owner { owner, process } => write!(
                f,
                "{path} belongs to user {owner}; it must belong to the user of this process, {process}, or to root: \
                 chown {process} {path}"
            ),
        }
    }
}

impl std::error::Error for SecretFileError {}
