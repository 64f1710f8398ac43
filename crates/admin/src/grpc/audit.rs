use std::sync::Arc;

use keyward_domain::filter::{self, Operator, Restriction, TextMatch};
use keyward_domain::{Change, Epoch, Error, EventFilter, MemberId, OnField, ProjectId, Revision, Rule, Timestamp};
use keyward_proto::admin::audit_service_server::AuditService;
use keyward_proto::admin::verify_log_response::Finding;
use keyward_proto::admin::{
    self, AcceptEpochRequest, AcceptEpochResponse, ListEventsRequest, ListEventsResponse, VerifyLogRequest,
    VerifyLogResponse,
};
use keyward_runtime::wire;
use keyward_store::LogHead;

use crate::app::{App, PageRequest};
use crate::grpc::service::{Incoming, service};
use crate::grpc::{convert, event};

service!(
    /// `AuditService`.
    AuditApi: AuditService {
        list_events: ListEventsRequest -> ListEventsResponse,
        verify_log: VerifyLogRequest -> VerifyLogResponse,
        accept_epoch: AcceptEpochRequest -> AcceptEpochResponse,
    }
);

async fn list_events(
    app: Arc<App>,
    Incoming { caller, message, .. }: Incoming<ListEventsRequest>,
) -> Result<ListEventsResponse, Error> {
    let ListEventsRequest { parent, page_size, page_token, filter: text } = message;
    let project = match parent.as_str() {
        "" => None,
        name => Some(ProjectId::parse_name(name).on_field("parent")?),
    };
    let filter = to_filter(&text).on_field("filter")?;
    let by = caller.on_history(project)?;
    let page = app.list_events(&by, filter, &text, &PageRequest { size: page_size, token: page_token }).await?;
    let (events, next_page_token) = convert::page(page, |item| event::event(&app, item));
    Ok(ListEventsResponse { events, next_page_token })
}

async fn verify_log(
    app: Arc<App>,
    Incoming { caller, message, .. }: Incoming<VerifyLogRequest>,
) -> Result<VerifyLogResponse, Error> {
    let known = message.known_head.map(|head| to_head(&head)).transpose()?;
    let found = app.verify_log(&caller.on_platform()?, known).await?;
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let finding =
        |finding: keyward_store::Finding| Finding { place: finding.subject, problem: finding.problem.to_owned() };
    Ok(VerifyLogResponse {
        intact: found.finding_count == 0,
        head: Some(admin::LogHead { revision: found.head.revision.0, chain: hex::encode(found.head.chain) }),
        entries: count(found.entries),
        rows: count(found.rows),
        findings: found.findings.into_iter().map(finding).collect(),
        finding_count: count(found.finding_count),
    })
}

async fn accept_epoch(
    app: Arc<App>,
    Incoming { caller, message, .. }: Incoming<AcceptEpochRequest>,
) -> Result<AcceptEpochResponse, Error> {
    let rule = "an epoch's UUID, such as the one at the end of a HISTORY_FORKED entry's resource";
    let epoch = Epoch::from_text(&message.epoch).ok_or_else(|| Error::field("epoch", rule))?;
    let (receipt, released) = app.accept_epoch(&caller.on_platform()?, epoch).await?;
    let released = i64::try_from(released).unwrap_or(i64::MAX);
    Ok(AcceptEpochResponse { receipt: Some(convert::receipt(receipt)), released })
}

fn to_filter(text: &str) -> Result<EventFilter, Rule> {
    let mut filter = EventFilter::default();
    for Restriction { field, operator, value } in filter::parse(text)? {
        match (field.as_str(), operator) {
            ("actor", Operator::Equal) => filter.actor = Some(actor(&value)?),
            ("type", Operator::Equal) => filter.kind = Some(kind(&value)?),
            ("resource", Operator::Equal) => filter.resource = Some(resource(value)?),
            ("time", Operator::AtLeast) => filter.from = Some(instant(&value)?),
            ("time", Operator::Less) => filter.before = Some(instant(&value)?),
            _ => return Err("about actor =, type =, resource =, time >= and time <".into()),
        }
    }
    Ok(filter)
}

/// The name of a member, or of `members/_platform`: the actor of changes that Keyward makes by itself.
fn actor(name: &str) -> Result<MemberId, Rule> {
    let platform = MemberId::platform();
    if name == platform.name() { Ok(platform) } else { MemberId::parse_name(name) }
}

/// The name of a kind of change in the log, from a value of the enum `Event.Type` with or without its prefix.
fn kind(value: &str) -> Result<&'static str, Rule> {
    let name = value.strip_prefix("TYPE_").unwrap_or(value);
    let known = Change::KINDS.iter().copied().find(|kind| kind.to_ascii_uppercase() == name);
    known.ok_or_else(|| "with a type of Event.Type, such as type = KEY_DEACTIVATED".into())
}

/// A pattern for the resource of an entry, which is a resource name.
fn resource(value: String) -> Result<TextMatch, Rule> {
    let pattern = TextMatch::parse(value)?;
    let can_match = Change::COLLECTIONS.iter().any(|collection| match &pattern {
        TextMatch::Exact(name) => name.starts_with(collection),
        TextMatch::Prefix(beginning) => beginning.starts_with(collection) || collection.starts_with(&**beginning),
    });
    if can_match {
        Ok(pattern)
    } else {
        Err("with a resource name or its beginning and *, such as resource = \"projects/6666/keys/server_*\"".into())
    }
}

fn instant(value: &str) -> Result<Timestamp, Rule> {
    let time = value.parse().ok().and_then(|time| wire::from_timestamp(&time));
    time.ok_or_else(|| "with times of RFC 3339, such as time >= \"2026-11-24T00:00:00Z\"".into())
}

fn to_head(head: &admin::LogHead) -> Result<LogHead, Error> {
    if head.revision < 1 {
        return Err(Error::field("known_head.revision", "1 or more, as an earlier VerifyLog returned it"));
    }
    let mut chain = [0; 32];
    hex::decode_to_slice(&head.chain, &mut chain).map_err(|_| {
        Error::field("known_head.chain", "64 hexadecimal digits, as an earlier VerifyLog returned them")
    })?;
    Ok(LogHead { revision: Revision(head.revision), chain })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_resource_that_no_entry_can_have_is_refused() {
        for good in ["projects/6666", "projects/6666/keys/x*", "members/*", "epochs/*", "*", "proj*"] {
            assert!(to_filter(&format!("resource = {good}")).unwrap().resource.is_some(), "{good}");
        }
        for bad in ["server_prod", "server_*", "keys/x", "/projects/6666", "projects", "6666"] {
            assert!(to_filter(&format!("resource = {bad}")).is_err(), "{bad}");
        }
    }
}
