use keyward_domain::filter::TextMatch;
use keyward_domain::{Error, Event, EventFilter, Revision};
use sea_orm::{ColumnTrait, Condition, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::connect::Store;
use crate::convert::to_event;
use crate::entity::change;
use crate::error::from_driver;
use crate::sql::matching::matching;
use crate::sql::rows;

/// Through how many entries one question looks for those that it wants: the connections are everybody's.
const SCAN: u64 = 20_000;

/// Some of the log, newest first.
#[derive(Clone, Debug)]
pub struct Events {
    /// What was found.
    pub events: Vec<Event>,
    /// Where to go on when fewer were found than asked for: nothing from there on has been looked at. `None`: the
    /// beginning was reached.
    pub unsearched_before: Option<Revision>,
}

impl Store {
    /// Up to `limit` entries of the log that `filter` lets through, the newest first, from the last before `before`
    /// (`None`: from the end).
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn events(&self, filter: &EventFilter, before: Option<Revision>, limit: u64) -> Result<Events, Error> {
        let begin = match before {
            Some(revision) => revision,
            None => self.head().await?.revision.next(),
        };
        let unsearched_before = self.end_of_search(filter, begin).await.map_err(|e| from_driver(&e))?;
        let end = unsearched_before.map_or(1, |end| end.0);
        let found = change::Entity::find()
            .filter(change::Column::Revision.lt(begin.0))
            .filter(change::Column::Revision.gte(end))
            .filter(indexed(filter))
            .filter(passing(filter))
            .order_by_desc(change::Column::Revision)
            .limit(rows(limit))
            .all(&self.reader())
            .await
            .map_err(|e| from_driver(&e))?;
        Ok(Events { events: found.into_iter().map(to_event).collect(), unsearched_before })
    }
}

impl Store {
    /// The last entry that a search from `begin` looks at, if it does not get to the beginning of the log. What an index
    /// answers alone is no search.
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

/// The part of a filter to which an index leads.
fn indexed(filter: &EventFilter) -> Condition {
    Condition::all()
        .add_option(filter.project.as_ref().map(|project| change::Column::ProjectId.eq(project.as_str())))
        .add_option(filter.actor.as_ref().map(|actor| change::Column::Actor.eq(actor.as_str())))
}

/// The other part.
fn passing(filter: &EventFilter) -> Condition {
    // The tag comes first in the text of a change; a test of the domain holds that.
    let kind = filter.kind.map(|kind| format!("{{\"change\":\"{kind}\","));
    Condition::all()
        .add_option(kind.map(|tag| matching(change::Column::Change, &TextMatch::Prefix(tag))))
        .add_option(filter.resource.as_ref().map(|resource| matching(change::Column::Resource, resource)))
        .add_option(filter.from.map(|time| change::Column::Time.gte(time.as_micros())))
        .add_option(filter.before.map(|time| change::Column::Time.lt(time.as_micros())))
}
