//! A disk that fails at chosen writes, for a process under test. Needs the C compiler that also builds SQLite.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// The `errno` of a full disk.
pub const ENOSPC: u64 = 28;
/// The `errno` of an input/output error.
pub const EIO: u64 = 5;

/// A disk that works until [`Disk::fail`] is called. It shares the numbers of `struct disk` in `disk.c` with the
/// process.
#[derive(Debug)]
pub struct Disk {
    shared: File,
    library: PathBuf,
    files: &'static str,
    dir: TempDir,
}

/// Byte offsets of the shared numbers.
const CALLS: u64 = 0;
const FIRST: u64 = 8;
const COUNT: u64 = 16;
const ERROR: u64 = 24;
const FAILED: u64 = 32;

impl Disk {
    /// Returns a disk that affects, in one process, the files whose paths contain `files`.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn under(files: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (source, library) = (dir.path().join("disk.c"), dir.path().join("disk.so"));
        std::fs::write(&source, include_str!("disk.c")).unwrap();
        let mut compile = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        let compiled = compile.output().expect("a C compiler");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let shared = File::options().read(true).write(true).create_new(true).open(dir.path().join("shared")).unwrap();
        shared.set_len(40).unwrap();
        Self { shared, library, files, dir }
    }

    /// Returns the environment variables that put the disk under a process.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let shared = self.dir.path().join("shared");
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("KEYWARD_TEST_DISK", shared.into()),
            ("KEYWARD_TEST_DISK_FILES", self.files.into()),
        ]
    }

    /// Makes `count` writes fail with `error`, starting with the `n`th from now on (counted from 1).
    pub fn fail(&self, n: u64, count: u64, error: u64) {
        self.set(FAILED, 0);
        self.set(COUNT, count);
        self.set(ERROR, error);
        self.set(FIRST, self.get(CALLS) + n);
    }

    /// Makes all further writes succeed. Returns how many writes have failed.
    pub fn work(&self) -> u64 {
        self.set(FIRST, 0);
        self.get(FAILED)
    }

    /// Returns how many writes there were.
    pub fn writes(&self) -> u64 {
        self.get(CALLS)
    }

    fn get(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.shared.read_exact_at(&mut bytes, at).unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn set(&self, at: u64, value: u64) {
        self.shared.write_all_at(&value.to_ne_bytes(), at).unwrap();
    }
}
