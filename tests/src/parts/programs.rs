//! The programs of an unpacked part.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::run;

/// Programs in a directory of their own, with the libraries that they need.
#[derive(Clone, Debug)]
pub struct Programs {
    root: PathBuf,
    directory: PathBuf,
    libraries: Vec<PathBuf>,
    /// The `LD_LIBRARY_PATH` of the programs.
    library_path: OsString,
}

impl Programs {
    /// The programs in `directory`, which find their libraries in `libraries`. All of these directories are below `root`.
    pub(super) fn new(root: PathBuf, directory: PathBuf, libraries: Vec<PathBuf>) -> Result<Self> {
        let library_path = std::env::join_paths(&libraries)
            .with_context(|| format!("{} cannot be in a library path", root.display()))?;
        Ok(Self { root, directory, libraries, library_path })
    }

    /// The directory that the part is unpacked in.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the programs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns a command for one of the programs, with the path of its libraries. `program` may also be an absolute
    /// path of another program that runs one of these.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.directory.join(program));
        command.env("LD_LIBRARY_PATH", &self.library_path);
        command
    }

    /// Copies the programs to another directory, which must not exist yet.
    ///
    /// # Errors
    /// If they cannot be copied.
    pub fn copied(&self, to: &Path) -> Result<Self> {
        run(Command::new("cp").arg("--recursive").arg(&self.root).arg(to))?;
        let moved = |path: &PathBuf| Ok(to.join(path.strip_prefix(&self.root)?));
        let libraries = self.libraries.iter().map(moved).collect::<Result<_>>()?;
        Self::new(to.to_owned(), moved(&self.directory)?, libraries)
    }
}
