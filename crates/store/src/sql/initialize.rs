use keyward_domain::{Error, MemberDraft, MemberId, Position, Revision, Role, RoleBinding};
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, EntityTrait};
use uuid::Uuid;

use crate::connect::{OpenError, Store};
use crate::entity::{counter, setting};
use crate::error::{TxError, from_driver};
use crate::sql::create_member::{creation, insert_member, new_member};
use crate::write::{Entry, SecretRecord, begin, move_counter, now, retry};

/// The setting that says which keyring the database was made with.
const FINGERPRINT: &str = "keyring_fingerprint";

/// What the first start makes besides the schema.
#[derive(Clone, Debug)]
pub struct RootDraft {
    /// The root member's credential.
    pub mint: SecretRecord,
}

impl Store {
    /// Whether the database has been initialized.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn is_initialized(&self) -> Result<bool, Error> {
        Ok(counter::Entity::find_by_id(1).one(&self.reader()).await.map_err(|e| from_driver(&e))?.is_some())
    }

    /// Makes the revision counter, binds the keyring, and creates `members/root`: revision 1. Returns whether it was this
    /// call that did: when it is done already, `root` is nobody's credential.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn initialize(&self, fingerprint: &str, root: &RootDraft) -> Result<bool, Error> {
        retry!(self.initialize_once(fingerprint, root))
    }

    async fn initialize_once(&self, fingerprint: &str, root: &RootDraft) -> Result<bool, TxError> {
        let tx = begin(&self.writer()).await?;
        if counter::Entity::find_by_id(1).one(&tx).await?.is_some() {
            return Ok(false);
        }
        let (zero, epoch) = ([0; 32], Uuid::new_v4());
        let counter = counter::ActiveModel {
            id: Set(1),
            revision: Set(0),
            chain: Set(zero.to_vec()),
            epoch: Set(epoch),
            mac: Set(None),
        };
        counter.insert(&tx).await?;
        let bound = setting::ActiveModel { name: Set(FINGERPRINT.to_owned()), value: Set(fingerprint.to_owned()) };
        bound.insert(&tx).await?;

        let time = now(&tx).await?;
        let owner = RoleBinding { role: Role::Owner, project: None };
        let draft = MemberDraft { id: MemberId::root(), display_name: String::new(), roles: vec![owner] };
        let member = new_member(&draft, &root.mint, None, time, Revision(1));
        insert_member(&tx, &member, &root.mint).await?;
        let change = creation(member, &root.mint);
        let text = serde_json::to_string(&change).map_err(crate::error::corrupt)?;
        let (actor, resource) = (MemberId::root(), change.resource());
        let entry =
            Entry { revision: Revision(1), time, actor: &actor, resource: &resource, project: None, change: &text };
        let chain = entry.chain(&self.chain_key, &zero);
        entry.insert(&tx, chain).await?;
        let head = Position { epoch: epoch.into(), revision: Revision(1), chain };
        move_counter(&tx, &self.chain_key, &head).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Checks that the keyring is the one that the database was made with.
    ///
    /// # Errors
    /// [`OpenError::WrongKeyring`], or that the database did not answer.
    pub async fn check_keyring(&self, fingerprint: &str) -> Result<(), OpenError> {
        let row = setting::Entity::find_by_id(FINGERPRINT).one(&self.reader()).await?;
        if row.is_some_and(|row| row.value == fingerprint) { Ok(()) } else { Err(OpenError::WrongKeyring) }
    }
}
