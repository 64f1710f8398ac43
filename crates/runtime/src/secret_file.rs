//! The one way in which Keyward reads a file that may hold a secret: bounded, never waiting for a FIFO, and with an eye on
//! who else can read or replace it.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use zeroize::Zeroizing;

/// The largest file that is read, in bytes: 1 MiB. A keyring has some hundred bytes for each of its keys.
const LARGEST: usize = 1 << 20;

/// What a file holds, which decides who else may read and write it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holds {
    /// The keyring: a reader of it can forge the audit log, and unseal tokens of a stolen database. Refused if others have
    /// any access, if its group has any access, or if it belongs to another user. One exception: a file of root's that its
    /// group may read is accepted with a warning, because that is how container platforms mount secrets for a user.
    Keyring,
    /// A credential, or a URL with a password. Refused if others have any access or if its group may write; a warning if its
    /// group may read it, or if it belongs to another user.
    Secret,
    /// Settings without a secret: no rule.
    Settings,
}

/// What was read.
pub struct SecretFile {
    /// The content; wiped from memory when dropped.
    pub text: Zeroizing<String>,
    /// What the operator should mend, although it is no reason to stop.
    pub warning: Option<String>,
}

/// Why a file was not read. Holds its name, never its content.
#[derive(Debug)]
pub struct SecretFileError {
    path: PathBuf,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Io(io::Error),
    NotAFile(&'static str),
    TooLarge,
    NotText,
    Mode { mode: u32, mend: u32, who: &'static str },
    Owner { owner: u32, process: u32 },
}

/// Reads a whole file. Symbolic links are followed; what they lead to is what counts.
///
/// # Errors
/// [`SecretFileError`]: there is no such file, it is no regular file, it is too large, it is not UTF-8, or others can read
/// or replace it.
pub fn read(path: &Path, holds: Holds) -> Result<SecretFile, SecretFileError> {
    let failed = |why| SecretFileError { path: path.to_owned(), why };
    // Without O_NONBLOCK the open of a FIFO waits for a writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| failed(not_opened(path, error)))?;
    // Of the open file: another one may have the name by now.
    let metadata = file.metadata().map_err(|error| failed(Why::Io(error)))?;
    if let Some(kind) = special(&metadata) {
        return Err(failed(Why::NotAFile(kind)));
    }
    let warning = check_access(path, &metadata, holds).map_err(failed)?;
    let text = read_bounded(file, metadata.len()).map_err(failed)?;
    Ok(SecretFile { text, warning })
}

/// Reads a whole file as [`read`] does, and logs its warning. For processes that log.
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

/// A way to read a secret again and again, for what changes while the process runs. Logs a warning when it is not the one
/// that was logged last.
///
/// The errors of the function are those of [`read`], as text.
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

/// A socket cannot be opened, and the operating system's words for that help no one.
fn not_opened(path: &Path, error: io::Error) -> Why {
    match std::fs::metadata(path).ok().as_ref().and_then(special) {
        Some(kind) => Why::NotAFile(kind),
        None => Why::Io(error),
    }
}

/// The name of what is no regular file.
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

/// A warning, or why the file must not be used.
fn check_access(path: &Path, metadata: &Metadata, holds: Holds) -> Result<Option<String>, Why> {
    let (mode, owner, process) = (metadata.mode() & 0o7777, metadata.uid(), geteuid().as_raw());
    let (path, readable_by_group) = (path.display(), mode & 0o040 != 0);
    let of_another = owner != process && owner != 0;
    match holds {
        Holds::Settings => return Ok(None),
        Holds::Keyring | Holds::Secret if mode & 0o007 != 0 => {
            return Err(Why::Mode { mode, mend: 0o600, who: "every user of this machine" });
        }
        Holds::Keyring | Holds::Secret if mode & 0o030 != 0 => {
            return Err(Why::Mode { mode, mend: 0o600, who: "its group" });
        }
        Holds::Keyring if of_another => return Err(Why::Owner { owner, process }),
        // Root mounted it, and the process has no other way to it.
        Holds::Keyring if readable_by_group && (owner == process || process == 0) => {
            return Err(Why::Mode { mode, mend: 0o600, who: "its group" });
        }
        Holds::Keyring | Holds::Secret => {}
    }
    if readable_by_group {
        return Ok(Some(format!("{path} has mode {mode:04o}, so that its group can read it: chmod 600 {path}")));
    }
    // Root reads the files of a service's user by right.
    let strange = of_another && process != 0;
    Ok(strange.then(|| format!("{path} belongs to user {owner}, who can change it, and not to user {process}")))
}

fn read_bounded(file: File, length: u64) -> Result<Zeroizing<String>, Why> {
    // Room for all of it from the start: a buffer that grows leaves its old copy behind, unwiped.
    let room = usize::try_from(length).unwrap_or(LARGEST).min(LARGEST) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(room as u64).read_to_end(&mut bytes).map_err(Why::Io)?;
    if bytes.len() > LARGEST {
        return Err(Why::TooLarge);
    }
    if std::str::from_utf8(&bytes).is_err() {
        return Err(Why::NotText);
    }
    // Checked above; the same allocation.
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
    /// Returns `true` if there is no file of that name.
    pub fn is_not_found(&self) -> bool {
        matches!(&self.why, Why::Io(error) if error.kind() == ErrorKind::NotFound)
    }
}

impl fmt::Display for SecretFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.why {
            Why::Io(error) => write!(f, "cannot read {path}: {error}"),
            Why::NotAFile(kind) => write!(f, "{path} is {kind}; it must be a regular file"),
            Why::TooLarge => write!(f, "{path} is larger than {LARGEST} bytes"),
            Why::NotText => write!(f, "{path} is not UTF-8 text"),
            Why::Mode { mode, mend, who } => write!(
                f,
                "{path} has mode {mode:04o}, so that {who} has access to the secret in it; it must be readable by its \
                 owner only: chmod {mend:o} {path}"
            ),
            Why::Owner { owner, process } => write!(
                f,
                "{path} belongs to user {owner}; it must belong to the user of this process, {process}, or to root: \
                 chown {process} {path}"
            ),
        }
    }
}

impl std::error::Error for SecretFileError {}
