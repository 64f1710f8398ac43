//! What a deployment past one machine starts from: `keyward init` makes it once, every `keyward admin` opens it.

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

/// The member as which admins ask each other.
const PEER: &str = "admins";

/// What `keyward init` is told.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The keyring's file. One that exists is used, for the database that it belongs to or for a new one.
    pub keyring: &'a Path,
    /// The root credential's file. A credential that it holds becomes root's; else one is made.
    pub root_credential: &'a Path,
    /// D for admins that start from now on; `None`: as it is, or 10 s.
    pub lease: Option<Duration>,
    /// The file of the credential by which admins ask each other. One that it holds is used; else one is made, and with it the
    /// member `members/admins`. `None`: admins do not ask each other, or there is such a member already.
    pub peer_credential: Option<&'a Path>,
}

/// What [`set_up`] found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SetupOutcome {
    /// Nothing; everything is made.
    Made,
    /// A database that was set up before, with this keyring.
    AlreadyThere,
}

/// Makes schema, keyring and root member, or finds that they are there. May be repeated, also after it was cut short:
/// files are written before the database learns of them, and used when they are found.
///
/// # Errors
/// The database was made with another keyring, or cannot be reached; a file cannot be written, or holds something else.
pub async fn set_up(database_url: &str, setup: Setup<'_>, format: &TokenFormat) -> anyhow::Result<SetupOutcome> {
    let Setup { keyring: path, root_credential, lease, peer_credential } = setup;
    // Of two at once each would make a keyring.
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
            // Another machine was quicker; what it made is to be copied here, and this would be in its place.
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

/// The same for a store in the memory of this process, which is made here, for simulations.
///
/// # Errors
/// The store cannot be made.
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
        // Another machine was quicker, and has the credential that counts.
        remove(file)?;
    }
    Ok(SetupOutcome::AlreadyThere)
}

/// Makes the member as which admins ask each other, or finds that it is there, with the credential in `file`.
async fn make_peer(store: &Store, keyring: &Keyring, format: &TokenFormat, file: &Path) -> anyhow::Result<()> {
    let id = MemberId::parse(PEER)?;
    let secrets = Secrets::new(format.clone(), Keyring::parse(&keyring.render())?);
    let found = read_credential(file, format)?;
    if store.member(&id).await?.is_some() {
        let token = found.with_context(|| {
            format!("members/{PEER} is there, and its credential is not at {}: copy it there", file.display())
        })?;
        return known(store, &secrets, &token, &id)
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

/// Makes the member as which admins ask each other, with that credential.
async fn bind_peer(store: &Store, secrets: &Secrets, token: &Token) -> anyhow::Result<()> {
    let id = MemberId::parse(PEER)?;
    let roles = vec![RoleBinding { role: Role::AdminNode, project: None }];
    let draft = MemberDraft { id, display_name: "Admins among themselves".to_owned(), roles };
    let permission = Permission::MemberCreate;
    let call = Call { actor: MemberId::root(), credential: None, permission, scope: None, request: None };
    store.create_member(&call, &draft, &secrets.trace(token, Uid::generate())?).await?;
    Ok(())
}

async fn known(store: &Store, secrets: &Secrets, token: &Token, id: &MemberId) -> anyhow::Result<()> {
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

/// Opens what [`set_up`] has made.
///
/// # Errors
/// The keyring is missing or wrong, the database empty or out of reach.
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
