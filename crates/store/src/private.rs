//! The files of a SQLite database hold sealed tokens and digests: they are their owner's alone, whatever the umask.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::connect::OpenError;

/// Makes the database file with mode 0600 if it is missing, and takes the group's and others' access away from the files
/// that an earlier version made. To be done before SQLite opens the file: SQLite gives the write-ahead log and the shared
/// memory the mode of the database file.
pub(crate) fn make_private(database: &Path) -> Result<(), OpenError> {
    // The open of a FIFO waits for its other end.
    if fs::metadata(database).is_ok_and(|metadata| !metadata.is_file()) {
        let source = io::Error::new(ErrorKind::InvalidInput, "the database must be a regular file");
        return Err(OpenError::Private { path: database.to_owned(), source });
    }
    let made = File::options().create(true).append(true).mode(0o600).open(database);
    made.map_err(|source| OpenError::Private { path: database.to_owned(), source })?;
    let beside = |suffix: &str| {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    for path in [database.to_owned(), beside("-wal"), beside("-shm"), database.with_extension("lock")] {
        match tighten(&path) {
            Ok(Some(mode)) => {
                tracing::info!("{} had mode {mode:04o} and has {:04o} now", path.display(), mode & 0o700);
            }
            Ok(None) => {}
            // Of another user's file the mode cannot be changed; SQLite can use it all the same.
            Err(error) => tracing::warn!(%error, "others can read {}: its mode cannot be changed", path.display()),
        }
    }
    Ok(())
}

/// The mode that a file had, if it was changed; `None`: there was no reason to, or there is no such file.
fn tighten(path: &Path) -> io::Result<Option<u32>> {
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o7777,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    fs::set_permissions(path, Permissions::from_mode(mode & 0o700))?;
    Ok(Some(mode))
}
