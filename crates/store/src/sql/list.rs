use std::collections::HashMap;

use keyward_domain::{
    EnforcedState, Error, Key, KeyFilter, KeyState, Member, Platform, Project, ProjectId, Revision, Timestamp,
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::clock::now;
use crate::convert::{from_state, to_key, to_member, to_project};
use crate::entity::{key, member, project, role_binding};
use crate::error::from_driver;
use crate::sql::limits::rows;
use crate::sql::matching::matching;
use crate::sql::withheld::withheld_keys;
use crate::store::Store;

/// Lists are ordered by the revision that created each item. A revision creates at most one item of a list, so a page is the
/// next `limit` items after a revision, and items created meanwhile come on the last pages.
impl Store {
    /// Up to `limit` keys of a project that match `filter` and were created after the revision `after`.
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
        let state = match filter.state {
            Some(state) => is_in(state, now(&self.reader()).await?),
            None => Condition::all(),
        };
        let rows = key::Entity::find()
            .filter(key::Column::ProjectId.eq(project.as_str()))
            .filter(matches(filter))
            .filter(state)
            .filter(key::Column::CreateRevision.gt(after.0))
            .order_by_asc(key::Column::CreateRevision)
            .limit(rows(limit))
            .all(&self.reader())
            .await
            .map_err(from_driver)?;
        rows.into_iter().map(to_key).collect()
    }

    /// Up to `limit` projects that were created after the revision `after`; with `among`, only projects with one of these ids.
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
            .map_err(from_driver)?;
        Ok(rows.into_iter().map(to_project).collect())
    }

    /// Up to `limit` members that were created after the revision `after`.
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
            .map_err(from_driver)?;
        let ids = rows.iter().map(|row| row.member_id.as_str());
        let bindings = role_binding::Entity::find()
            .filter(role_binding::Column::MemberId.is_in(ids))
            .all(&self.reader())
            .await
            .map_err(from_driver)?;
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

/// The condition that validators enforce this state of a key at an instant.
fn is_in(state: EnforcedState, now: Timestamp) -> Condition {
    let stored = |state| Condition::all().add(key::Column::State.eq(from_state(state)));
    match state {
        EnforcedState::Deactivated => stored(KeyState::Deactivated),
        EnforcedState::Withheld => stored(KeyState::Active).add(key::Column::Uid.in_subquery(withheld_keys(now))),
        EnforcedState::Active => stored(KeyState::Active).add(key::Column::Uid.not_in_subquery(withheld_keys(now))),
    }
}

/// The condition that a key matches the filter, apart from its state.
fn matches(filter: &KeyFilter) -> Condition {
    Condition::all()
        .add_option(filter.platform.map(|platform| key::Column::Platform.eq(Platform::as_str(platform))))
        .add_option(filter.name.as_ref().map(|name| matching(key::Column::KeyId, name)))
        .add_option(filter.creator.as_ref().map(|creator| key::Column::Creator.eq(creator.as_str())))
        .add_option(filter.default_key.map(|default_key| key::Column::DefaultKey.eq(default_key)))
}
