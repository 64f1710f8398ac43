//! Deployments of more than one machine: `keyward init` sets one up once, and every `keyward admin` opens it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use keyward_domain::{MemberDraft, MemberId, Permission, Role, RoleBinding, Uid};
use keyward_runtime::secret_file::{self, Holds};
use keyward_store::{Call, Store};
use keyward_token::{Keyring, Token, TokenFormat, TokenKind};
use zeroize::Zeroizing;

use crate::files::{beside, lock_file, read_keyring, write_secret};
use crate::first_start::bind_root;
use crate::secrets::{Secrets, chain_key};
use crate::sync::put_lease;

/// The member as which admins call each other, with role admin_node.
const PEER: &str = "admins";

/// Options of `keyward init`.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The keyring's file. An existing keyring is used; otherwise one is created.
    pub keyring: &'a Path,
    /// The root credential's file. An existing credential becomes root's; otherwise one is created.
    pub root_credential: &'a Path,
    /// Length of leases for admins that start from now on. Default: the one in the database, or 10 s.
    pub lease: Option<Duration>,
    /// The file of the credential with which admins call each other, as `members/admins`. An existing credential is used;
    /// otherwise one is created, together with the member. `None` if there is one admin only, or if the member exists already.
    pub peer_credential: Option<&'a Path>,
}

/// The outcome of [`set_up`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SetupOutcome {
    /// The database was empty and is set up now.
    Made,
    /// The database was set up before, with this keyring.
    AlreadyThere,
}

/// Creates the schema, the keyring and the root member, or finds that they exist. It can be repeated, also after a crash: files
/// are written before the database refers to them, and used if they exist.
///
/// # Errors
/// The database belongs to another keyring or cannot be reached; a file cannot be written or has other content.
pub async fn set_up(database_url: &str, setup: Setup<'_>, format: &TokenFormat) -> anyhow::Result<SetupOutcome> {
    let Setup { keyring: path, root_credential, lease, peer_credential } = setup;
    // Two concurrent runs would each write a keyring.
    let _held = lock_file(&beside(path, "lock"))?;
    let found = read_keyring(path)?;
    let is_new = found.is_none();
    let keyring = found.map_or_else(Keyring::generate, Ok)?;
    let store = Store::open(database_url, chain_key(&keyring)).await?;
    let outcome = if store.is_initialized().await? {
        if is_new {
            bail!("the database is set up, but its keyring is not at {}: without it no token is known", path.display());
        }
        SetupOutcome::AlreadyThere
    } else {
        if is_new {
            write_secret(path, &keyring.render())?;
        }
        let outcome = make_root(&store, &keyring, format, root_credential).await?;
        if is_new && outcome == SetupOutcome::AlreadyThere {
            // Another machine set the database up meanwhile. Its keyring must be copied here, and this one would be mistaken for
            // it.
            remove(path)?;
        }
        outcome
    };
    store.check_keyring(&keyring.fingerprint()).await?;
    if let Some(lease) = lease {
        put_lease(&store, lease).await?;
    }
    if let Some(file) = peer_credential {
        make_peer(&store, &keyring, format, file).await?;
    }
    store.close().await;
    Ok(outcome)
}

/// Creates a store in the memory of this process and sets it up, for simulations.
///
/// # Errors
/// The store cannot be created.
#[cfg(feature = "simulation")]
pub async fn set_up_in_memory(
    keyring: &Keyring,
    root: &Token,
    peer: &Token,
    lease: Duration,
    format: &TokenFormat,
) -> anyhow::Result<Store> {
    let store = Store::in_memory(chain_key(keyring)).await?;
    bind_root(&store, keyring, format, root).await?;
    bind_peer(&store, &Secrets::new(format.clone(), Keyring::parse(&keyring.render())?), peer).await?;
    put_lease(&store, lease).await?;
    Ok(store)
}

async fn make_root(
    store: &Store,
    keyring: &Keyring,
    format: &TokenFormat,
    file: &Path,
) -> anyhow::Result<SetupOutcome> {
    let found = read_credential(file, format)?;
    let is_new = found.is_none();
    let token = match found {
        Some(token) => token,
        None => Token::generate(format, TokenKind::Member)?,
    };
    if is_new {
        write_secret(file, &Zeroizing::new(format!("{}\n", token.expose())))?;
    }
    if bind_root(store, keyring, format, &token).await? {
        return Ok(SetupOutcome::Made);
    }
    if is_new {
        // Another machine set the database up meanwhile, with its own credential.
        remove(file)?;
    }
    Ok(SetupOutcome::AlreadyThere)
}

/// Creates the member as which admins call each other, or checks that it exists with the credential in `file`.
async fn make_peer(store: &Store, keyring: &Keyring, format: &TokenFormat, file: &Path) -> anyhow::Result<()> {
    let id = MemberId::parse(PEER)?;
    let secrets = Secrets::new(format.clone(), Keyring::parse(&keyring.render())?);
    let found = read_credential(file, format)?;
    if store.member(&id).await?.is_some() {
        let token = found.with_context(|| {
            format!("members/{PEER} is there, and its credential is not at {}: copy it there", file.display())
        })?;
        return check_owner(store, &secrets, &token, &id)
            .await
            .with_context(|| format!("the credential in {}", file.display()));
    }
    let token = match found {
        Some(token) => token,
        None => {
            let token = Token::generate(format, TokenKind::Member)?;
            write_secret(file, &Zeroizing::new(format!("{}\n", token.expose())))?;
            token
        }
    };
    bind_peer(store, &secrets, &token).await
}

/// Creates the member as which admins call each other, with this credential.
async fn bind_peer(store: &Store, secrets: &Secrets, token: &Token) -> anyhow::Result<()> {
    let id = MemberId::parse(PEER)?;
    let roles = vec![RoleBinding { role: Role::AdminNode, project: None }];
    let draft = MemberDraft { id, display_name: "Admins among themselves".to_owned(), roles };
    let permission = Permission::MemberCreate;
    let call = Call { actor: MemberId::root(), credential: None, permission, scope: None, request: None };
    store.create_member(&call, &draft, &secrets.trace(token, Uid::generate())?).await?;
    Ok(())
}

async fn check_owner(store: &Store, secrets: &Secrets, token: &Token, id: &MemberId) -> anyhow::Result<()> {
    for digest in secrets.credential_digests(token.expose()) {
        if store.member_by_credential(&digest).await?.is_some_and(|member| member.id == *id) {
            return Ok(());
        }
    }
    bail!("is not one of {}", id.name())
}

fn remove(file: &Path) -> anyhow::Result<()> {
    std::fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))
}

fn read_credential(path: &Path, format: &TokenFormat) -> anyhow::Result<Option<Token>> {
    let text = match secret_file::read_logged(path, Holds::Secret) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let credential = format.member_credential(&text);
    let credential = credential.map_err(|fault| anyhow::anyhow!("{} {fault}", path.display()))?;
    Ok(Some(Token::parse_owned(format, credential.text().to_owned())?))
}

/// Opens a deployment that [`set_up`] has set up.
///
/// # Errors
/// The keyring is missing or wrong; the database is empty or cannot be reached.
pub async fn open_deployment(database_url: &str, keyring: &Path) -> anyhow::Result<(Store, Keyring)> {
    let found = read_keyring(keyring)?;
    let found = found.with_context(|| format!("{} is missing; `keyward init` makes it", keyring.display()))?;
    let store = Store::open(database_url, chain_key(&found)).await?;
    if !store.is_initialized().await? {
        bail!("the database is empty; `keyward init` with this keyring sets it up");
    }
    store.check_keyring(&found.fingerprint()).await?;
    Ok((store, found))
}
