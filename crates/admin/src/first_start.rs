//! What the first start on an empty data directory makes: keyring, root credential, database.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use keyward_domain::Uid;
use keyward_store::Store;
use keyward_token::{Keyring, Token, TokenFormat, TokenKind};

use crate::files::{check_data_dir, lock_file, read_keyring, write_secret};
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
    check_data_dir(dir)?;
    // Before anything is looked at: of two first starts at once each would make a keyring, and one would lose.
    let lock = lock_file(&dir.join("serve.lock"))?;
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

fn open_keyring(path: &Path, database_exists: bool) -> anyhow::Result<Keyring> {
    if let Some(keyring) = read_keyring(path)? {
        return Ok(keyring);
    }
    if database_exists {
        bail!("{} is missing: without it every token would be unknown. Restore it from a backup", path.display());
    }
    let keyring = Keyring::generate()?;
    write_secret(path, &keyring.render())?;
    Ok(keyring)
}

async fn make_root(store: &Store, keyring: &Keyring, format: &TokenFormat, file: &Path) -> anyhow::Result<Token> {
    let token = Token::generate(format, TokenKind::Member)?;
    write_secret(file, &zeroize::Zeroizing::new(format!("{}\n", token.expose())))?;
    bind_root(store, keyring, format, &token).await?;
    Ok(token)
}

/// Makes an empty database one of this keyring, with that credential for root. Whether it was empty.
pub(crate) async fn bind_root(
    store: &Store,
    keyring: &Keyring,
    format: &TokenFormat,
    root: &Token,
) -> anyhow::Result<bool> {
    let secrets = Secrets::new(format.clone(), Keyring::parse(&keyring.render())?);
    let mint = secrets.trace(root, Uid::generate())?;
    Ok(store.initialize(&keyring.fingerprint(), &mint).await?)
}
