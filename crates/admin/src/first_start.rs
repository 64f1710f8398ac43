//! What the first start on an empty data directory makes: keyring, root credential, database.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use keyward_store::{RootDraft, Store};
use keyward_token::{Keyring, Token, TokenFormat, TokenKind};

use crate::secrets::{Secrets, chain_key};

/// A data directory, ready to be served from.
#[derive(Debug)]
pub struct FirstStart {
    /// The database.
    pub store: Store,
    /// The keyring.
    pub keyring: Keyring,
    /// Set at the very first start: the root member's credential, to be shown once.
    pub new_root: Option<Token>,
    /// Where the root credential is kept.
    pub credential_file: PathBuf,
    /// Keeps other processes out; held for as long as the directory is served from.
    pub lock: File,
}

/// Opens a data directory; makes what is missing in an empty one.
///
/// Files are written before the database learns of them, so a crash in between leaves a start that can be repeated.
///
/// # Errors
/// The directory cannot be written, the keyring is missing or wrong, or another process uses it.
pub async fn prepare_data_dir(dir: &Path, format: &TokenFormat) -> anyhow::Result<FirstStart> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    // Before anything is looked at: of two first starts at once each would make a keyring, and one would lose.
    let lock = lock(dir)?;
    let database = dir.join("keyward.db");
    let keyring = open_keyring(&dir.join("keyring"), database.exists())?;
    let url = format!("sqlite:{}", database.display());
    let store = Store::open(&url, chain_key(&keyring)).await?;
    let credential_file = dir.join("root.credential");
    let new_root = if store.is_initialized().await? {
        None
    } else {
        Some(make_root(&store, &keyring, format, &credential_file).await?)
    };
    store.check_keyring(&keyring.fingerprint()).await?;
    Ok(FirstStart { store, keyring, new_root, credential_file, lock })
}

fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("serve.lock");
    let failed = || format!("cannot lock {}", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(&path).with_context(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another keyward process uses {}", dir.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(failed),
    }
}

fn open_keyring(path: &Path, database_exists: bool) -> anyhow::Result<Keyring> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let text = zeroize::Zeroizing::new(text);
            Keyring::parse(&text).with_context(|| format!("{}", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if database_exists {
                bail!(
                    "{} is missing: without it every token would be unknown. Restore it from a backup",
                    path.display()
                );
            }
            let keyring = Keyring::generate()?;
            write_secret(path, &keyring.render())?;
            Ok(keyring)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

async fn make_root(store: &Store, keyring: &Keyring, format: &TokenFormat, file: &Path) -> anyhow::Result<Token> {
    let secrets = Secrets::new(format.clone(), Keyring::parse(&keyring.render())?);
    let token = Token::generate(format, TokenKind::Member)?;
    write_secret(file, &zeroize::Zeroizing::new(format!("{}\n", token.expose())))?;
    let mint = secrets.trace(&token)?;
    store.initialize(&keyring.fingerprint(), &RootDraft { mint }).await?;
    Ok(token)
}

/// Writes a file that only its owner may read, durably, or not at all.
fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let partial = path.with_extension("partial");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial).with_context(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
    std::fs::rename(&partial, path).with_context(failed)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).with_context(failed)
}
