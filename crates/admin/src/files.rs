//! Secrets in files, and locks beside them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use keyward_token::Keyring;

/// Keeps other processes out for as long as the file is held.
pub(crate) fn lock_file(path: &Path) -> anyhow::Result<File> {
    let failed = || format!("cannot lock {}", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(path).with_context(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another keyward process uses {}", path.parent().unwrap_or(path).display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(failed),
    }
}

/// The keyring in a file; `None`: there is no such file.
pub(crate) fn read_keyring(path: &Path) -> anyhow::Result<Option<Keyring>> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let text = zeroize::Zeroizing::new(text);
            Keyring::parse(&text).map(Some).with_context(|| format!("{}", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The path with another extension after its own.
pub(crate) fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    path.into()
}

/// Writes a file that only its owner may read, durably, or not at all.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let partial = beside(path, "partial");
    // One that a crash left behind, or somebody else's: its mode and owner would stay.
    if let Err(error) = std::fs::remove_file(&partial)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(failed);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial).with_context(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
    std::fs::rename(&partial, path).with_context(failed)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).with_context(failed)
}
