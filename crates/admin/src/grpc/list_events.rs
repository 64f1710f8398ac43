use std::sync::Arc;

use keyward_domain::filter::{self, Operator, Restriction, TextMatch, invalid};
use keyward_domain::{Change, Error, EventFilter, MemberId, ProjectId, Timestamp};
use keyward_proto::admin::{ListEventsRequest, ListEventsResponse};
use keyward_runtime::wire;
use tonic::Request;

use crate::app::{App, PageRequest};
use crate::grpc::auth::caller;
use crate::grpc::event;

pub(super) async fn handle(app: Arc<App>, request: Request<ListEventsRequest>) -> Result<ListEventsResponse, Error> {
    let caller = caller(&request)?;
    let ListEventsRequest { parent, page_size, page_token, filter: text } = request.into_inner();
    let project = match parent.as_str() {
        "" => None,
        name => Some(ProjectId::parse_name("parent", name)?),
    };
    let filter = EventFilter { project, ..to_filter(&text)? };
    let request = PageRequest { size: page_size, token: page_token };
    let page = app.list_events(&caller, &filter, &text, &request).await?;
    let events = page.items.iter().map(|item| event::event(&app, item)).collect();
    Ok(ListEventsResponse { events, next_page_token: page.next })
}

/// A member, or the platform, which is none that could be made.
fn actor(name: &str) -> Result<MemberId, Error> {
    let platform = MemberId::platform();
    if name == platform.name() { Ok(platform) } else { MemberId::parse_name("filter", name) }
}

fn to_filter(text: &str) -> Result<EventFilter, Error> {
    let mut filter = EventFilter::default();
    for Restriction { field, operator, value } in filter::parse(text)? {
        match (field.as_str(), operator) {
            ("actor", Operator::Equal) => filter.actor = Some(actor(&value)?),
            ("type", Operator::Equal) => filter.kind = Some(kind(&value)?),
            ("resource", Operator::Equal) => filter.resource = Some(TextMatch::parse(value)?),
            ("time", Operator::AtLeast) => filter.from = Some(instant(&value)?),
            ("time", Operator::Less) => filter.before = Some(instant(&value)?),
            _ => return Err(invalid("about actor =, type =, resource =, time >= and time <")),
        }
    }
    Ok(filter)
}

/// The log's name of a kind, from that of the enum `Event.Type`.
fn kind(value: &str) -> Result<&'static str, Error> {
    let name = value.strip_prefix("TYPE_").unwrap_or(value);
    let known = Change::KINDS.into_iter().find(|kind| kind.to_ascii_uppercase() == name);
    known.ok_or_else(|| invalid("with a type of Event.Type, as type = KEY_DEACTIVATED"))
}

fn instant(value: &str) -> Result<Timestamp, Error> {
    let time = value.parse().ok().and_then(|time| wire::from_timestamp(&time));
    time.ok_or_else(|| invalid("with times of RFC 3339, as time >= \"2026-11-24T00:00:00Z\""))
}
