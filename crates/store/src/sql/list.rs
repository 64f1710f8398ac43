use std::collections::HashMap;

use keyward_domain::{Error, Key, KeyFilter, Member, Platform, Project, ProjectId, Revision};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::connect::Store;
use crate::convert::{from_state, to_key, to_member, to_project};
use crate::entity::{key, member, project, role_binding};
use crate::error::from_driver;
use crate::sql::matching::matching;
use crate::sql::rows;

/// Lists are in the order of the revisions that created their items. Each revision creates at most one item of a list,
/// so a page is "the next so many after that revision": what is created meanwhile comes on the last pages.
impl Store {
    /// Up to `limit` of a project's keys that `filter` lets through, from the first after `after`.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn keys(
        &self,
        project: &ProjectId,
        filter: &KeyFilter,
        after: Revision,
        limit: u64,
    ) -> Result<Vec<Key>, Error> {
        let rows = key::Entity::find()
            .filter(key::Column::ProjectId.eq(project.as_str()))
            .filter(passing(filter))
            .filter(key::Column::CreateRevision.gt(after.0))
            .order_by_asc(key::Column::CreateRevision)
            .limit(rows(limit))
            .all(&self.reader())
            .await
            .map_err(|e| from_driver(&e))?;
        rows.into_iter().map(to_key).collect()
    }

    /// Up to `limit` projects, from the first after `after`; of all, or of those `among` only.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn projects(
        &self,
        among: Option<&[ProjectId]>,
        after: Revision,
        limit: u64,
    ) -> Result<Vec<Project>, Error> {
        let mut query = project::Entity::find().filter(project::Column::CreateRevision.gt(after.0));
        if let Some(ids) = among {
            query = query.filter(project::Column::ProjectId.is_in(ids.iter().map(ProjectId::as_str)));
        }
        let rows = query
            .order_by_asc(project::Column::CreateRevision)
            .limit(rows(limit))
            .all(&self.reader())
            .await
            .map_err(|e| from_driver(&e))?;
        Ok(rows.into_iter().map(to_project).collect())
    }

    /// Up to `limit` members, from the first after `after`.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn members(&self, after: Revision, limit: u64) -> Result<Vec<Member>, Error> {
        let rows = member::Entity::find()
            .filter(member::Column::CreateRevision.gt(after.0))
            .order_by_asc(member::Column::CreateRevision)
            .limit(rows(limit))
            .all(&self.reader())
            .await
            .map_err(|e| from_driver(&e))?;
        let ids = rows.iter().map(|row| row.member_id.as_str());
        let bindings = role_binding::Entity::find()
            .filter(role_binding::Column::MemberId.is_in(ids))
            .all(&self.reader())
            .await
            .map_err(|e| from_driver(&e))?;
        let mut roles: HashMap<String, Vec<role_binding::Model>> = HashMap::new();
        for binding in bindings {
            roles.entry(binding.member_id.clone()).or_default().push(binding);
        }
        rows.into_iter()
            .map(|row| {
                let own = roles.remove(&row.member_id).unwrap_or_default();
                to_member(row, own)
            })
            .collect()
    }
}

fn passing(filter: &KeyFilter) -> Condition {
    Condition::all()
        .add_option(filter.state.map(|state| key::Column::State.eq(from_state(state))))
        .add_option(filter.platform.map(|platform| key::Column::Platform.eq(Platform::as_str(platform))))
        .add_option(filter.name.as_ref().map(|name| matching(key::Column::KeyId, name)))
        .add_option(filter.creator.as_ref().map(|creator| key::Column::Creator.eq(creator.as_str())))
        .add_option(filter.default_key.map(|default_key| key::Column::DefaultKey.eq(default_key)))
}
