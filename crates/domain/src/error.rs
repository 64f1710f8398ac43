use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::time::Duration;

use crate::credential::CredentialName;
use crate::id::{KeyId, KeyName, MemberId, ProjectId};
use crate::log::{Epoch, Revision};

/// The small closed set of ways to fail that every transport can render: the standard gRPC codes in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The caller did not prove who it is.
    Unauthenticated,
    /// The caller may not do this.
    PermissionDenied,
    /// The request breaks a rule; sending it again will not help.
    InvalidArgument,
    /// There is no such thing, or none that the caller may see.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The thing is not in a state that allows this.
    FailedPrecondition,
    /// Somebody else changed the thing in between; read it again.
    Aborted,
    /// Not finished in time.
    DeadlineExceeded,
    /// Not possible now; retry.
    Unavailable,
    /// A defect.
    Internal,
}

/// Why something failed: one for each value of `keyward.admin.v1.ErrorReason`, which documents them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "documented one by one in proto/keyward/admin/v1/error_reason.proto")]
pub enum Reason {
    CredentialMissing,
    CredentialInvalid,
    PermissionDenied,
    FieldInvalid,
    KeyNameReserved,
    RequestIdReused,
    PageTokenInvalid,
    ProjectNotFound,
    KeyNotFound,
    MemberNotFound,
    ProjectIdTaken,
    KeyNameTaken,
    MemberIdTaken,
    DefaultKeyProtected,
    EtagMismatch,
    NotYetEnforced,
    NoLease,
    RevisionNotReached,
    StoreUnavailable,
    StoreRefused,
    Internal,
    ShuttingDown,
    RevealDisabled,
    TokenUnknown,
    KeyDeactivated,
    KeyReplaced,
    CredentialNotFound,
    MemberLimitReached,
    LastOwner,
    EpochMismatch,
    SyncProtocolViolated,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 31] = [
        Self::CredentialMissing,
        Self::CredentialInvalid,
        Self::PermissionDenied,
        Self::FieldInvalid,
        Self::KeyNameReserved,
        Self::RequestIdReused,
        Self::PageTokenInvalid,
        Self::ProjectNotFound,
        Self::KeyNotFound,
        Self::MemberNotFound,
        Self::ProjectIdTaken,
        Self::KeyNameTaken,
        Self::MemberIdTaken,
        Self::DefaultKeyProtected,
        Self::EtagMismatch,
        Self::NotYetEnforced,
        Self::NoLease,
        Self::RevisionNotReached,
        Self::StoreUnavailable,
        Self::StoreRefused,
        Self::Internal,
        Self::ShuttingDown,
        Self::RevealDisabled,
        Self::TokenUnknown,
        Self::KeyDeactivated,
        Self::KeyReplaced,
        Self::CredentialNotFound,
        Self::MemberLimitReached,
        Self::LastOwner,
        Self::EpochMismatch,
        Self::SyncProtocolViolated,
    ];

    /// The reason on the wire, as `KEY_NAME_TAKEN`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CredentialMissing => "CREDENTIAL_MISSING",
            Self::CredentialInvalid => "CREDENTIAL_INVALID",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::FieldInvalid => "FIELD_INVALID",
            Self::KeyNameReserved => "KEY_NAME_RESERVED",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::PageTokenInvalid => "PAGE_TOKEN_INVALID",
            Self::ProjectNotFound => "PROJECT_NOT_FOUND",
            Self::KeyNotFound => "KEY_NOT_FOUND",
            Self::MemberNotFound => "MEMBER_NOT_FOUND",
            Self::ProjectIdTaken => "PROJECT_ID_TAKEN",
            Self::KeyNameTaken => "KEY_NAME_TAKEN",
            Self::MemberIdTaken => "MEMBER_ID_TAKEN",
            Self::DefaultKeyProtected => "DEFAULT_KEY_PROTECTED",
            Self::EtagMismatch => "ETAG_MISMATCH",
            Self::NotYetEnforced => "NOT_YET_ENFORCED",
            Self::NoLease => "NO_LEASE",
            Self::RevisionNotReached => "REVISION_NOT_REACHED",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::StoreRefused => "STORE_REFUSED",
            Self::Internal => "INTERNAL",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::RevealDisabled => "REVEAL_DISABLED",
            Self::TokenUnknown => "TOKEN_UNKNOWN",
            Self::KeyDeactivated => "KEY_DEACTIVATED",
            Self::KeyReplaced => "KEY_REPLACED",
            Self::CredentialNotFound => "CREDENTIAL_NOT_FOUND",
            Self::MemberLimitReached => "MEMBER_LIMIT_REACHED",
            Self::LastOwner => "LAST_OWNER",
            Self::EpochMismatch => "EPOCH_MISMATCH",
            Self::SyncProtocolViolated => "SYNC_PROTOCOL_VIOLATED",
        }
    }

    /// The way of failing that it belongs to.
    pub const fn kind(self) -> Kind {
        match self {
            Self::CredentialMissing | Self::CredentialInvalid => Kind::Unauthenticated,
            Self::PermissionDenied => Kind::PermissionDenied,
            Self::FieldInvalid | Self::KeyNameReserved | Self::RequestIdReused | Self::PageTokenInvalid => {
                Kind::InvalidArgument
            }
            Self::ProjectNotFound
            | Self::KeyNotFound
            | Self::MemberNotFound
            | Self::TokenUnknown
            | Self::CredentialNotFound => Kind::NotFound,
            Self::ProjectIdTaken | Self::KeyNameTaken | Self::MemberIdTaken => Kind::AlreadyExists,
            Self::DefaultKeyProtected
            | Self::RevealDisabled
            | Self::KeyDeactivated
            | Self::KeyReplaced
            | Self::MemberLimitReached
            | Self::LastOwner
            | Self::StoreRefused
            | Self::SyncProtocolViolated => Kind::FailedPrecondition,
            Self::EtagMismatch | Self::EpochMismatch => Kind::Aborted,
            Self::NotYetEnforced => Kind::DeadlineExceeded,
            Self::NoLease | Self::RevisionNotReached | Self::StoreUnavailable | Self::ShuttingDown => Kind::Unavailable,
            Self::Internal => Kind::Internal,
        }
    }
}

/// A field that breaks its rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Path of the field in the request, as `key.description`.
    pub field: String,
    /// The rule, as a noun phrase: "1 to 64 letters, digits and underscores".
    pub rule: String,
}

/// The thing that an error is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resource {
    /// Its type, as `keyward/Key`.
    pub kind: &'static str,
    /// Its resource name.
    pub name: String,
}

/// A failure, told for whoever called; no transport in it. It becomes a gRPC status (`runtime::status`) in one of the
/// last steps. `Display` shows the public message only.
///
/// One pointer wide, so that a `Result` costs the good way nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error(Box<Told>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Told {
    reason: Reason,
    message: String,
    violations: Vec<Violation>,
    resource: Option<Resource>,
    metadata: BTreeMap<&'static str, String>,
    retry_after: Option<Duration>,
    /// For the log only: it may hold driver text.
    internal: Option<String>,
}

impl Error {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Told {
            reason,
            message: message.into(),
            violations: Vec::new(),
            resource: None,
            metadata: BTreeMap::new(),
            retry_after: None,
            internal: None,
        }))
    }

    fn about(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        self.0.resource = Some(Resource { kind, name: name.into() });
        self
    }

    fn violating(mut self, field: &str, rule: impl Into<String>) -> Self {
        self.0.violations.push(Violation { field: field.to_owned(), rule: rule.into() });
        self
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.metadata.insert(name, value.into());
        self
    }

    fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    fn because(mut self, detail: impl Into<String>) -> Self {
        self.0.internal = Some(detail.into());
        self
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// Which fields break which rules; empty unless the kind is `InvalidArgument`.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// What it is about, if about one thing.
    pub fn resource(&self) -> Option<&Resource> {
        self.0.resource.as_ref()
    }

    /// Facts for programs, as `revision`.
    pub fn metadata(&self) -> &BTreeMap<&'static str, String> {
        &self.0.metadata
    }

    /// How long to wait before the next try, where trying again can help.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What the log should know and the caller must not.
    pub fn internal_detail(&self) -> Option<&str> {
        self.0.internal.as_deref()
    }
}

/// Constructors, named for what the caller sees.
impl Error {
    /// A field breaks its rule.
    pub fn field(field: &str, rule: impl Into<String>) -> Self {
        let rule = rule.into();
        Self::new(Reason::FieldInvalid, format!("{field} must be {rule}")).violating(field, rule)
    }

    /// The same about a part of a request, as `requests[3]`: the fields that break a rule are that part's.
    #[must_use]
    pub fn within(mut self, part: &str) -> Self {
        if !self.0.violations.is_empty() {
            self.0.message = format!("{part}.{}", self.0.message);
        }
        for violation in &mut self.0.violations {
            violation.field = format!("{part}.{}", violation.field);
        }
        self
    }

    /// The name has the default key's pattern.
    pub fn key_name_reserved(field: &str) -> Self {
        let rule = "not of the default key's pattern, {project_id}_default_{digits}, which only the platform gives out";
        Self::new(Reason::KeyNameReserved, format!("{field} must be {rule}")).violating(field, rule)
    }

    /// The request id came with another payload before.
    pub fn request_id_reused() -> Self {
        let rule = "new for each new request: it was used with another payload within the last 24 hours";
        Self::new(Reason::RequestIdReused, format!("request_id must be {rule}")).violating("request_id", rule)
    }

    /// The page token is not one that this list issued.
    pub fn page_token_invalid() -> Self {
        let rule = "the next_page_token of the same list, unchanged, or empty";
        Self::new(Reason::PageTokenInvalid, format!("page_token must be {rule}")).violating("page_token", rule)
    }

    /// No credential came with the call.
    pub fn credential_missing() -> Self {
        Self::new(
            Reason::CredentialMissing,
            "no member credential; send the metadata \"authorization: Bearer {credential}\", once",
        )
    }

    /// The credential is no good. Says not why: the caller has not proved who it is.
    pub fn credential_invalid() -> Self {
        Self::new(Reason::CredentialInvalid, "the member credential is malformed, unknown or revoked")
    }

    /// The member may not do this.
    pub fn permission_denied(permission: &'static str) -> Self {
        Self::new(
            Reason::PermissionDenied,
            format!("needs the permission {permission}, which no role of yours gives here"),
        )
        .with("permission", permission)
    }

    /// No such project for this caller.
    pub fn project_not_found(project: &ProjectId) -> Self {
        Self::new(Reason::ProjectNotFound, format!("no project {project} that you may see"))
            .about("keyward/Project", project.name())
    }

    /// No such key for this caller.
    pub fn key_not_found(name: &KeyName) -> Self {
        Self::new(Reason::KeyNotFound, format!("no key {name} that you may see")).about("keyward/Key", name.to_string())
    }

    /// No such member.
    pub fn member_not_found(member: &MemberId) -> Self {
        Self::new(Reason::MemberNotFound, format!("no member {member}")).about("keyward/Member", member.name())
    }

    /// The database is busy with something that is done once at a time.
    pub fn store_busy(what: &str) -> Self {
        Self::new(Reason::StoreUnavailable, format!("{what}; try again later")).retry_after(Duration::from_secs(5))
    }

    /// No such credential of that member.
    pub fn credential_not_found(name: &CredentialName) -> Self {
        Self::new(Reason::CredentialNotFound, format!("no credential {name}"))
            .about("keyward/Credential", name.to_string())
    }

    /// The member has as many of these as it can have.
    pub fn member_limit_reached(member: &MemberId, limit: usize, what: &str) -> Self {
        let message = format!("member {member} has {limit} {what}, which is the limit; revoke one first");
        Self::new(Reason::MemberLimitReached, message).about("keyward/Member", member.name())
    }

    /// Nobody would be left to undo it.
    pub fn last_owner(member: &MemberId) -> Self {
        let message = format!(
            "without this nobody with a credential would be owner any more, and nobody could undo that; make another \
             owner first (now: {member})"
        );
        Self::new(Reason::LastOwner, message).about("keyward/Member", member.name())
    }

    /// The database's history is another one.
    pub fn epoch_mismatch(current: &Epoch) -> Self {
        let message = format!("the database's epoch is {current} now; look at its keys, and accept that one");
        Self::new(Reason::EpochMismatch, message).with("epoch", current.to_string())
    }

    /// The database's history is not the one that this process has told validators of.
    pub fn history_changed() -> Self {
        let message =
            "the database's history has changed under this admin, which is finding its place in it; try again";
        Self::new(Reason::StoreUnavailable, message).retry_after(Duration::from_secs(1))
    }

    /// The project id is in use.
    pub fn project_id_taken(project: &ProjectId) -> Self {
        Self::new(Reason::ProjectIdTaken, format!("project id {project} is taken"))
            .about("keyward/Project", project.name())
    }

    /// The key name is in use.
    pub fn key_name_taken(name: &KeyName) -> Self {
        Self::new(
            Reason::KeyNameTaken,
            format!("key name {} is taken in project {}; a deactivated key keeps its name", name.key, name.project),
        )
        .about("keyward/Key", name.to_string())
    }

    /// The member id is in use.
    pub fn member_id_taken(member: &MemberId) -> Self {
        Self::new(Reason::MemberIdTaken, format!("member id {member} is taken")).about("keyward/Member", member.name())
    }

    /// The default key stays active.
    pub fn default_key_protected(name: &KeyName) -> Self {
        let message = "the default key cannot be deactivated and cannot expire; only support can rotate it";
        Self::new(Reason::DefaultKeyProtected, message).about("keyward/Key", name.to_string())
    }

    /// The token was not kept.
    pub fn reveal_disabled(name: &KeyName) -> Self {
        let message = "tokens are not kept here: this one was shown when it was made, and cannot be shown again";
        Self::new(Reason::RevealDisabled, message).about("keyward/Key", name.to_string())
    }

    /// The key is deactivated.
    pub fn key_deactivated(name: &KeyName) -> Self {
        Self::new(Reason::KeyDeactivated, "the key is deactivated").about("keyward/Key", name.to_string())
    }

    /// The key was rotated before.
    pub fn key_replaced(name: &KeyName, by: &KeyId) -> Self {
        Self::new(
            Reason::KeyReplaced,
            format!(
                "key {by} was made to replace this one already; rotate that one, or activate it if it is deactivated"
            ),
        )
        .about("keyward/Key", name.to_string())
    }

    /// The token is nobody's.
    pub fn token_unknown() -> Self {
        Self::new(Reason::TokenUnknown, "no key has, or ever had, this token")
    }

    /// The caller acted on an old state.
    pub fn etag_mismatch(name: &KeyName) -> Self {
        Self::new(Reason::EtagMismatch, "the key changed since you read it; read it again and send its new etag")
            .about("keyward/Key", name.to_string())
    }

    /// Committed, but some validator may still answer from before it.
    pub fn not_yet_enforced(revision: Revision, missing: usize) -> Self {
        Self::new(
            Reason::NotYetEnforced,
            format!("committed at revision {revision}, not yet enforced: validators that may still answer from before it: {missing}; call again to wait on"),
        )
        .with("revision", revision.to_string())
        .with("validators_missing", missing.to_string())
        .retry_after(Duration::from_millis(100))
    }

    /// The validator has no right to answer.
    pub fn no_lease() -> Self {
        Self::new(
            Reason::NoLease,
            "this validator may not answer now: its lease has run out, for want of a connection to an admin",
        )
        .retry_after(Duration::from_millis(200))
    }

    /// The validator is behind the revision that was asked for.
    pub fn revision_not_reached(asked: Revision, reached: Revision) -> Self {
        Self::new(Reason::RevisionNotReached, format!("revision {asked} was asked for, this validator is at {reached}"))
            .with("revision", reached.to_string())
            .retry_after(Duration::from_millis(50))
    }

    /// A validator sent something that the replica protocol does not allow, or speaks a version of it that this admin does
    /// not. `rule` is the whole message, such as "a session begins with Hello".
    pub fn sync_protocol_violated(rule: impl Into<String>) -> Self {
        Self::new(Reason::SyncProtocolViolated, rule)
    }

    /// A validator has applied revision `known`, and this admin only `reached`: it could not continue the validator's log.
    pub fn admin_behind(known: Revision, reached: Revision) -> Self {
        Self::new(
            Reason::RevisionNotReached,
            format!("this admin is at revision {reached}, behind revision {known} that the validator has"),
        )
        .with("revision", reached.to_string())
        .retry_after(Duration::from_millis(50))
    }

    /// A validator reported a position that the log lacks. Until the admin has searched the database for it, no session
    /// may begin.
    pub fn history_uncertain() -> Self {
        let message = "this admin is checking if the database has lost changes; try again";
        Self::new(Reason::StoreUnavailable, message).retry_after(Duration::from_secs(1))
    }

    /// The admin is reading the whole database again after its history forked. Until it has, no session may begin.
    pub fn history_loading() -> Self {
        let message = "this admin is loading the database again after its history forked; try again";
        Self::new(Reason::StoreUnavailable, message).retry_after(Duration::from_secs(1))
    }

    /// The database did not answer.
    pub fn store_unavailable(detail: impl Into<String>) -> Self {
        Self::store_unable("the database did not answer", detail)
    }

    /// The database cannot do its work now. `what` says why, without driver text; `detail` goes to the log only.
    pub fn store_unable(what: &str, detail: impl Into<String>) -> Self {
        Self::new(Reason::StoreUnavailable, format!("{what}; retry with the same request_id"))
            .because(detail)
            .retry_after(Duration::from_secs(1))
    }

    /// The database refuses, and will refuse again until an operator has changed something. `what` says why, without
    /// driver text; `detail` goes to the log only.
    pub fn store_refused(what: &str, detail: impl Into<String>) -> Self {
        Self::new(Reason::StoreRefused, format!("{what}; nothing was changed, and a retry does not help"))
            .because(detail)
    }

    /// A defect; `detail` goes to the log only.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(Reason::Internal, "internal error; the server's log has more").because(detail)
    }

    /// The process is leaving.
    pub fn shutting_down() -> Self {
        Self::new(Reason::ShuttingDown, "this process is shutting down; ask another one")
            .retry_after(Duration::from_secs(1))
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}
