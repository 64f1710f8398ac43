//! Replays permissions: at each entry the actor must have had the right to the change by the log before the entry.
//!
//! The transaction of a change checks the rows of roles and credentials. A writer with access to the database can insert such
//! a row, act by it and delete it. The log keeps the act, and does not grant the right.

use keyward_domain::{Change, MemberId, RequiredRight, allows};
use keyward_token::Digest;

use crate::verify::expected::Expected;

const NO_RIGHT: &str = "had no right to this change by the log before it";
const CREDENTIAL: &str =
    "had no right to this change: by the log before it, its credential was revoked or is not its own";

/// The problem if the log before an entry, `before`, does not permit the change by `actor` with `credential`; `None` if it
/// does. Entries without a credential are checked by the roles of the actor only: entries of versions before 2026-11-28, and
/// changes that Keyward makes in a member's name.
pub(super) fn objection(
    before: &Expected,
    actor: &MemberId,
    credential: Option<&Digest>,
    change: &Change,
) -> Option<&'static str> {
    if credential.is_some_and(|digest| !before.has_credential(actor, digest)) {
        return Some(CREDENTIAL);
    }
    let permitted = match change.required_right() {
        RequiredRight::Platform => *actor == MemberId::platform() && credential.is_none(),
        RequiredRight::Permission { permission, project } => {
            let roles = before.member(actor).map(|member| member.roles.as_slice()).unwrap_or_default();
            allows(roles, permission, project)
                || credential.is_none() && (is_scheduled(actor, change) || is_first_member(before, actor, change))
        }
    };
    if permitted { None } else { Some(NO_RIGHT) }
}

/// Returns `true` if Keyward carries out a deactivation that `actor` scheduled. The right was checked at the entry that
/// scheduled it, and the actor may have lost the right since. The schedule is the one in the image of the key before the
/// change: if it was forged, [`Expected::apply`] finds that the image does not follow from the log.
fn is_scheduled(actor: &MemberId, change: &Change) -> bool {
    let Change::KeyDeactivated { before, .. } = change else { return false };
    before.schedule.as_ref().is_some_and(|schedule| schedule.by == *actor)
}

/// Returns `true` if the change is the initialization of the database, which creates `members/root`.
fn is_first_member(before: &Expected, actor: &MemberId, change: &Change) -> bool {
    let Change::MemberCreated { member, .. } = change else { return false };
    before.is_without_members() && *actor == MemberId::root() && member.id == *actor && member.creator.is_none()
}
