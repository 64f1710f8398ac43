use keyward_domain::{
    Change, Error, Issuance, Key, KeyDraft, KeyId, KeyName, Platform, Project, ProjectDraft, ProjectId, Revision, Uid,
};
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, EntityTrait, QuerySelect};

use crate::connection::Transaction;
use crate::convert::from_project;
use crate::entity::setting;
use crate::error::{TxError, corrupt};
use crate::retry::retry;
use crate::secret::{IssuedSecret, SecretRecord};
use crate::sql::create_key::{insert_key, new_key};
use crate::sql::get::{find_default_key, find_project};
use crate::sql::replay::replay_token;
use crate::store::Store;
use crate::write::{Call, Replay, Write};

/// The setting that holds the next number to try when the store allocates a project id.
const NEXT_PROJECT: &str = "next_project_id";
const FIRST_PROJECT: u64 = 1000;

/// The result of [`Store::create_project`].
#[derive(Clone, Debug)]
pub struct CreatedProject {
    /// The project.
    pub project: Project,
    /// The default key: as created, or its current state if the request was a retry.
    pub default_key: Key,
    /// The revision that created both.
    pub revision: Revision,
    /// The token of the default key in the answer.
    pub secret: IssuedSecret,
}

impl Store {
    /// Creates a project with its default key, `{project}_default_{suffix}`, in one change.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `PROJECT_ID_TAKEN`, `REQUEST_ID_REUSED`, `STORE_UNAVAILABLE`.
    pub async fn create_project(
        &self,
        call: &Call,
        draft: &ProjectDraft,
        suffix: u32,
        secret: &SecretRecord,
    ) -> Result<CreatedProject, Error> {
        retry(|| self.create_project_once(call, draft, suffix, secret)).await
    }

    async fn create_project_once(
        &self,
        call: &Call,
        draft: &ProjectDraft,
        suffix: u32,
        secret: &SecretRecord,
    ) -> Result<CreatedProject, TxError> {
        let write = self.begin(call).await?;
        let taken = match &draft.id {
            Some(id) => find_project(&write.tx, id).await?.is_some(),
            None => false,
        };
        if let Some(replay) = write.replay(draft.id.as_ref().map(ProjectId::name).as_deref()).await? {
            return replayed(write, replay).await;
        }
        let id = match &draft.id {
            Some(id) if taken => return Err(Error::project_id_taken(id).into()),
            Some(id) => id.clone(),
            None => allocate_id(&write.tx).await?,
        };
        let next = write.next_entry().await?;
        let project = Project {
            id: id.clone(),
            uid: Uid::generate(),
            display_name: draft.display_name.clone(),
            creator: write.actor().clone(),
            create_time: next.time,
            create_revision: next.revision,
        };
        from_project(&project).insert(&write.tx).await?;
        let key = Key { default_key: true, ..new_key(&default_draft(id, suffix), secret, write.actor(), &next) };
        let record = insert_key(&write.tx, key, secret).await?;
        let created = CreatedProject {
            project: project.clone(),
            default_key: record.key.clone(),
            revision: next.revision,
            secret: IssuedSecret::New,
        };
        let change = Change::ProjectCreated { project, default_key: Box::new(record) };
        write.commit(next, &change, secret.sealed.as_ref()).await?;
        Ok(created)
    }
}

async fn replayed(write: Write<'_>, replay: Replay) -> Result<CreatedProject, TxError> {
    let gone = || corrupt("the project of a remembered request is gone");
    let id = replay.resource.strip_prefix("projects/").ok_or_else(gone)?;
    let id = ProjectId::from_store(id.to_owned());
    let project = find_project(&write.tx, &id).await?.ok_or_else(gone)?;
    let default_key = find_default_key(&write.tx, &id).await?.ok_or_else(gone)?;
    let (default_key, secret) = replay_token(write, &default_key.name, Issuance::CreateProject, replay.sealed).await?;
    Ok(CreatedProject { project, default_key, revision: replay.revision, secret })
}

fn default_draft(project: ProjectId, suffix: u32) -> KeyDraft {
    let key = KeyId::default_of(&project, suffix);
    KeyDraft {
        name: KeyName { project, key },
        description: "Default key, created with the project".to_owned(),
        platform: Platform::Server,
        expire_time: None,
        annotations: Default::default(),
    }
}

/// The next number that is not the id of a project.
async fn allocate_id(tx: &Transaction) -> Result<ProjectId, TxError> {
    // Without the lock, concurrent transactions would choose the same number, and all but one would conflict.
    let row = setting::Entity::find_by_id(NEXT_PROJECT).lock_exclusive().one(tx).await?;
    let mut number = row.as_ref().and_then(|r| r.value.parse().ok()).unwrap_or(FIRST_PROJECT);
    let id = loop {
        let id = ProjectId::from_store(number.to_string());
        number += 1;
        if find_project(tx, &id).await?.is_none() {
            break id;
        }
    };
    let next = setting::ActiveModel { name: Set(NEXT_PROJECT.to_owned()), value: Set(number.to_string()) };
    if row.is_some() {
        next.update(tx).await?
    } else {
        next.insert(tx).await?
    };
    Ok(id)
}
