use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use keyward_domain::Uid;

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

    /// Gives the file its final name.
    pub(super) fn persist(self, target: &Path) -> anyhow::Result<()> {
        fs::rename(&self.path, target).with_context(|| format!("cannot write {}", target.display()))
    }
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
