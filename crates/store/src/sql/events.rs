use std::collections::{BTreeSet, HashMap};

use keyward_domain::filter::TextMatch;
use keyward_domain::{CredentialId, CredentialName, Entry, Error, Event, EventFilter, MemberId, Revision};
use keyward_token::Digest;
use sea_orm::{ColumnTrait, Condition, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::convert::{to_digest, to_event};
use crate::entity::{change, credential};
use crate::error::from_driver;
use crate::sql::limits::rows;
use crate::sql::matching::matching;
use crate::store::Store;

/// The most entries that one call searches, so that a rare match does not occupy a connection for long.
const SCAN: u64 = 20_000;

/// What stands in the place of the member in the name of a credential whose row is missing.
const UNKNOWN: &str = "-";

/// A page of the log, newest first.
#[derive(Clone, Debug)]
pub struct Events {
    /// The entries that match the filter.
    pub events: Vec<Event>,
    /// Where to continue if there are fewer entries than requested: entries before this revision were not searched. `None` if
    /// the search reached the beginning of the log.
    pub unsearched_before: Option<Revision>,
}

impl Store {
    /// Up to `limit` entries of the log that match `filter`, newest first. Starts at the last entry before the revision
    /// `before`, and at the end of the log if that is `None`.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn events(&self, filter: &EventFilter, before: Option<Revision>, limit: u64) -> Result<Events, Error> {
        let begin = match before {
            Some(revision) => revision,
            None => self.head().await?.revision.next(),
        };
        let unsearched_before = self.end_of_search(filter, begin).await.map_err(from_driver)?;
        let end = unsearched_before.map_or(1, |end| end.0);
        let found = change::Entity::find()
            .filter(change::Column::Revision.lt(begin.0))
            .filter(change::Column::Revision.gte(end))
            .filter(indexed(filter))
            .filter(unindexed(filter))
            .order_by_desc(change::Column::Revision)
            .limit(rows(limit))
            .all(&self.reader())
            .await
            .map_err(from_driver)?;
        let events = self.with_owners(found).await.map_err(from_driver)?;
        Ok(Events { events, unsearched_before })
    }

    /// The events of these entries. A credential is shown under the member that it belongs to, which is not the actor if it was
    /// used under a forged row.
    async fn with_owners(&self, rows: Vec<change::Model>) -> Result<Vec<Event>, DbErr> {
        let read = |row: change::Model| {
            let entry = Entry::from_json(&row.change).ok();
            (row, entry)
        };
        let entries: Vec<_> = rows.into_iter().map(read).collect();
        let used = |entry: &Option<Entry>| entry.as_ref().and_then(|entry| entry.credential);
        let digests: BTreeSet<_> =
            entries.iter().filter_map(|(_, entry)| used(entry)).map(|digest| digest.as_bytes().to_vec()).collect();
        let owners: HashMap<Digest, MemberId> = credential::Entity::find()
            .filter(credential::Column::Digest.is_in(digests))
            .all(&self.reader())
            .await?
            .into_iter()
            .filter_map(|row| Some((to_digest(&row.digest).ok()?, MemberId::from_store(row.member_id))))
            .collect();
        let name = |digest: Digest| {
            let member = owners.get(&digest).cloned().unwrap_or_else(|| MemberId::from_store(UNKNOWN.to_owned()));
            CredentialName { member, id: CredentialId::of(&digest) }
        };
        Ok(entries
            .into_iter()
            .map(|(row, entry)| {
                let credential = used(&entry).map(name);
                to_event(row, entry, credential)
            })
            .collect())
    }
}

impl Store {
    /// The oldest entry that a search from `begin` covers; `None` if it covers the log to its beginning. A filter that an index
    /// answers alone covers the whole log.
    async fn end_of_search(&self, filter: &EventFilter, begin: Revision) -> Result<Option<Revision>, DbErr> {
        let EventFilter { project, actor, .. } = filter.clone();
        if *filter == (EventFilter { project, actor, ..Default::default() }) {
            return Ok(None);
        }
        let end = change::Entity::find()
            .select_only()
            .column(change::Column::Revision)
            .filter(change::Column::Revision.lt(begin.0))
            .filter(indexed(filter))
            .order_by_desc(change::Column::Revision)
            .offset(SCAN - 1)
            .limit(1)
            .into_tuple::<i64>()
            .one(&self.reader())
            .await?;
        Ok(end.filter(|end| *end > 1).map(Revision))
    }
}

/// The conditions of a filter that an index serves.
fn indexed(filter: &EventFilter) -> Condition {
    Condition::all()
        .add_option(filter.project.as_ref().map(|project| change::Column::ProjectId.eq(project.as_str())))
        .add_option(filter.actor.as_ref().map(|actor| change::Column::Actor.eq(actor.as_str())))
}

/// The other conditions of a filter.
fn unindexed(filter: &EventFilter) -> Condition {
    // The kind comes first in the JSON of a change. A test of keyward-domain ensures that.
    let kind = filter.kind.map(|kind| format!("{{\"change\":\"{kind}\","));
    Condition::all()
        .add_option(kind.map(|tag| matching(change::Column::Change, &TextMatch::Prefix(tag))))
        .add_option(filter.resource.as_ref().map(|resource| matching(change::Column::Resource, resource)))
        .add_option(filter.from.map(|time| change::Column::Time.gte(time.as_micros())))
        .add_option(filter.before.map(|time| change::Column::Time.lt(time.as_micros())))
}
