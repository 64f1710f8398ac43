//! The first start on an empty data directory: creates the keyring, the root credential and the database.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use keyward_domain::Uid;
use keyward_store::Store;
use keyward_token::{Keyring, Token, TokenFormat, TokenKind};

use crate::files::{check_data_dir, lock_file, read_keyring, write_secret};
use crate::secrets::{Secrets, chain_key};

/// A data directory that is open and ready to serve from.
#[derive(Debug)]
pub struct FirstStart {
    /// The database.
    pub store: Store,
    /// The keyring.
    pub keyring: Keyring,
    /// The root member's credential, to be shown once; set on the first start only.
    pub new_root: Option<Token>,
    /// The file with the root credential.
    pub credential_file: PathBuf,
    /// Locks the directory against other processes while it is held.
    pub lock: File,
}

/// Opens a data directory, and initializes an empty one.
///
/// Files are written before the database refers to them, so a start that crashed in between can be repeated.
///
/// # Errors
/// The directory cannot be written, the keyring is missing or wrong, or another process uses it.
pub async fn prepare_data_dir(dir: &Path, format: &TokenFormat) -> anyhow::Result<FirstStart> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    check_data_dir(dir)?;
    // Taken first: two concurrent first starts would each write a keyring.
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

/// Initializes an empty database: binds it to this keyring and creates the root member with this credential. Returns `false`
/// if it was initialized before.
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
