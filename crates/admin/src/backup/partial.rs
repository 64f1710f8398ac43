use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use keyward_domain::Uid;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::files::beside;

/// A file that is being written. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct PartialFile {
    path: PathBuf,
    pub(super) file: File,
}

impl PartialFile {
    /// Creates an empty file with mode 0600 beside `target`.
    pub(super) fn beside(target: &Path) -> anyhow::Result<Self> {
        // A random name, so that two processes with the same target do not write one file.
        let path = beside(target, &format!("{}.partial", Uid::generate()));
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, file })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its final name, which no file may have.
    pub(super) fn persist(self, target: &Path) -> anyhow::Result<()> {
        publish(&self.path, target).with_context(|| format!("cannot write {}", target.display()))
    }
}

/// Gives a file the name `target`. Fails if a file has this name already, also one that was made a moment ago.
pub(super) fn publish(path: &Path, target: &Path) -> io::Result<()> {
    match renameat_with(CWD, path, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // The file system, such as NFS, or the kernel cannot do this. A link does not replace a file either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link(path, target),
        Err(error) => Err(error.into()),
    }
}

/// [`publish`] by a second name for the file, and the removal of the first.
fn link(path: &Path, target: &Path) -> io::Result<()> {
    fs::hard_link(path, target)?;
    fs::remove_file(path)
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // It has its final name already, or an error is on its way to the operator.
        let _ = fs::remove_file(&self.path);
    }
}

/// A directory for files that are being written. Dropped, it is removed with everything in it.
#[derive(Debug)]
pub(super) struct PartialDirectory(PathBuf);

impl PartialDirectory {
    /// Creates the directory with mode 0700.
    pub(super) fn create(path: PathBuf) -> anyhow::Result<Self> {
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PartialDirectory {
    fn drop(&mut self) {
        // What cannot be removed is named by the next restore, which requires an empty directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_that_was_made_meanwhile_is_not_replaced() {
        let dir = std::env::temp_dir().join(format!("keyward-partial-{}", Uid::generate()));
        fs::create_dir(&dir).unwrap();
        let target = dir.join("backup");
        let partial = PartialFile::beside(&target).unwrap();
        fs::write(&target, "another").unwrap();
        let error = format!("{:#}", partial.persist(&target).unwrap_err());
        assert!(error.contains("File exists"), "{error}");
        fs::write(dir.join("other"), "mine").unwrap();
        assert_eq!(link(&dir.join("other"), &target).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&target).unwrap(), "another");
        fs::remove_file(&target).unwrap();
        link(&dir.join("other"), &target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "a partial file is left");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_published_file_has_its_name_only() {
        let dir = std::env::temp_dir().join(format!("keyward-partial-{}", Uid::generate()));
        fs::create_dir(&dir).unwrap();
        let target = dir.join("backup");
        PartialFile::beside(&target).unwrap().persist(&target).unwrap();
        assert!(target.is_file());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }
}
