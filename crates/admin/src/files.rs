//! Files with secrets, and lock files beside them.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use keyward_runtime::secret_file::{self, Holds};
use keyward_token::Keyring;
use rustix::process::geteuid;

/// Locks a file, which keeps other processes out until the returned handle is dropped.
pub(crate) fn lock_file(path: &Path) -> anyhow::Result<File> {
    let failed = || format!("cannot lock {}", path.display());
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path).with_context(failed)?;
    match file.try_lock() {
        Ok(()) => {
            // Any process that can open the file can lock it, and so keep this process from starting.
            let mode = file.metadata().with_context(failed)?.mode() & 0o7777;
            if mode & 0o077 != 0 {
                file.set_permissions(Permissions::from_mode(0o600)).with_context(failed)?;
                tracing::info!("{} had mode {mode:04o} and has 0600 now", path.display());
            }
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            bail!("another keyward process uses {}", path.parent().unwrap_or(path).display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(failed),
    }
}

/// Refuses a directory that every user of this machine can write to, and warns about one that is writable to others than this
/// process's user.
pub(crate) fn check_data_dir(dir: &Path) -> anyhow::Result<()> {
    let metadata = std::fs::metadata(dir).with_context(|| format!("cannot read the metadata of {}", dir.display()))?;
    let (mode, owner, process) = (metadata.mode() & 0o7777, metadata.uid(), geteuid().as_raw());
    let dir = dir.display();
    if mode & 0o002 != 0 {
        bail!(
            "{dir} has mode {mode:04o}, so that every user of this machine can replace the keyring and the database in \
             it; it must be writable by its owner only: chmod 700 {dir}"
        );
    }
    if mode & 0o020 != 0 {
        tracing::warn!("{dir} has mode {mode:04o}, so that its group can replace the files in it: chmod 700 {dir}");
    }
    if owner != process && owner != 0 {
        tracing::warn!("{dir} belongs to user {owner}, who can replace the files in it, and not to user {process}");
    }
    Ok(())
}

/// Reads a keyring. Returns `None` if the file does not exist.
pub(crate) fn read_keyring(path: &Path) -> anyhow::Result<Option<Keyring>> {
    match secret_file::read_logged(path, Holds::Keyring) {
        Ok(text) => Keyring::parse(&text).map(Some).with_context(|| format!("{}", path.display())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Appends an extension to a path, after its own extension.
pub(crate) fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    path.into()
}

/// The directory of a file.
pub(crate) fn directory(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file with mode 0600, atomically and durably.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let partial = beside(path, "partial");
    // A leftover file, such as after a crash, would keep its mode and owner.
    if let Err(error) = std::fs::remove_file(&partial)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(failed);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial).with_context(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
    std::fs::rename(&partial, path).with_context(failed)?;
    File::open(directory(path)).and_then(|dir| dir.sync_all()).with_context(failed)
}
