use keyward_domain::{Error, MemberDraft, MemberId, Role, RoleBinding};
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, EntityTrait};

use crate::clock::now;
use crate::entity::setting;
use crate::error::{TxError, from_driver};
use crate::log::chain::{Author, append};
use crate::log::head::{create_head, find_head, move_head};
use crate::open::error::OpenError;
use crate::retry::retry;
use crate::secret::SecretRecord;
use crate::sql::create_member::{creation, insert_member, new_member};
use crate::store::Store;

/// The setting that holds the fingerprint of the keyring that the database was initialized with.
const FINGERPRINT: &str = "keyring_fingerprint";

impl Store {
    /// Returns `true` if the database has been initialized.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn is_initialized(&self) -> Result<bool, Error> {
        Ok(find_head(&self.reader()).await.map_err(from_driver)?.is_some())
    }

    /// Initializes an empty database: creates the head of the log, stores the fingerprint of the keyring, and creates
    /// `members/root` with the credential `root` at revision 1. Returns `false` and changes nothing if it was initialized
    /// before; `root` is then not a valid credential.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn initialize(&self, fingerprint: &str, root: &SecretRecord) -> Result<bool, Error> {
        retry(|| self.initialize_once(fingerprint, root)).await
    }

    async fn initialize_once(&self, fingerprint: &str, root: &SecretRecord) -> Result<bool, TxError> {
        let tx = self.writer().begin_write().await?;
        if find_head(&tx).await?.is_some() {
            return Ok(false);
        }
        let empty = create_head(&tx).await?;
        let bound = setting::ActiveModel { name: Set(FINGERPRINT.to_owned()), value: Set(fingerprint.to_owned()) };
        bound.insert(&tx).await?;

        let time = now(&tx).await?;
        let owner = RoleBinding { role: Role::Owner, project: None };
        let draft = MemberDraft { id: MemberId::root(), display_name: String::new(), roles: vec![owner] };
        let member = new_member(&draft, root, None, time, empty.revision.next());
        insert_member(&tx, &member, root).await?;
        let change = creation(member, root);
        let author = Author { member: &MemberId::root(), credential: None };
        let head = append(&tx, &self.chain_key, &empty, time, author, &change).await?;
        move_head(&tx, &self.chain_key, &head).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Checks that the keyring is the one that the database was initialized with.
    ///
    /// # Errors
    /// [`OpenError::WrongKeyring`], or [`OpenError::Driver`] if the database did not answer.
    pub async fn check_keyring(&self, fingerprint: &str) -> Result<(), OpenError> {
        let row = setting::Entity::find_by_id(FINGERPRINT).one(&self.reader()).await?;
        if row.is_some_and(|row| row.value == fingerprint) { Ok(()) } else { Err(OpenError::WrongKeyring) }
    }
}
