use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::time::Duration;

use crate::credential::CredentialName;
use crate::id::{KeyId, KeyName, MemberId, ProjectId};
use crate::log::{Epoch, Revision};
use crate::reason::Reason;
use crate::rule::Rule;

/// A field that breaks its rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Path of the field in the request, such as `key.description`.
    pub field: String,
    /// The rule as a noun phrase that completes "must be", such as "1 to 64 letters, digits and underscores".
    pub rule: String,
}

/// The resource that an error is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resource {
    /// Its type, such as `keyward/Key`.
    pub kind: &'static str,
    /// Its resource name.
    pub name: String,
}

/// Why a call failed, in words for the caller and free of any transport. `runtime::status` turns it into a gRPC status.
/// `Display` shows the public message only.
///
/// One pointer wide, so that a `Result` stays small on the path that succeeds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error(Box<Content>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Content {
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
        Self(Box::new(Content {
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

    fn violating(mut self, field: &str, rule: &Rule) -> Self {
        self.0.violations.push(Violation { field: field.to_owned(), rule: rule.as_str().to_owned() });
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

    /// The reason, which decides the gRPC code.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The fields that break a rule; empty unless the kind is `InvalidArgument`.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// The resource that the error is about, if it is about one.
    pub fn resource(&self) -> Option<&Resource> {
        self.0.resource.as_ref()
    }

    /// Facts for programs, such as `revision`.
    pub fn metadata(&self) -> &BTreeMap<&'static str, String> {
        &self.0.metadata
    }

    /// How long to wait before the next try, where trying again can help.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What the log should have and the caller must not see.
    pub fn internal_detail(&self) -> Option<&str> {
        self.0.internal.as_deref()
    }
}

/// Constructors, named for what the caller sees.
impl Error {
    /// The value of `field`, a path such as `key.description`, breaks `rule`: `FIELD_INVALID`, or `KEY_NAME_RESERVED` for
    /// [`Rule::NotReserved`].
    pub fn field(field: &str, rule: impl Into<Rule>) -> Self {
        let rule = rule.into();
        let reason = match rule {
            Rule::Form(_) => Reason::FieldInvalid,
            Rule::NotReserved => Reason::KeyNameReserved,
        };
        Self::broken(reason, field, &rule)
    }

    fn broken(reason: Reason, field: &str, rule: &Rule) -> Self {
        Self::new(reason, format!("{field} {rule}")).violating(field, rule)
    }

    /// Prefixes the fields that break a rule with the part of the request that they are in, such as `key` or
    /// `requests[3]`. An error without violations stays as it is.
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

    /// The bytes of the request are not a message of the method that was called. `fault` describes the first fault without
    /// content of the request, such as "invalid varint".
    pub fn request_unreadable(fault: &str) -> Self {
        let rule = "the request must be one message of the method's request type, within the listener's size limit";
        Self::new(Reason::RequestUnreadable, format!("{rule}: {fault}"))
    }

    /// The calls of the connection, or of all connections of the listener, hold as much memory as they may.
    pub fn overloaded() -> Self {
        Self::new(
            Reason::Overloaded,
            "the calls of a connection, and of all connections of a listener, hold at most as much memory as \
             --message-memory-mib gives them: send fewer or smaller requests at a time, and read their answers",
        )
        .retry_after(Duration::from_secs(1))
    }

    /// The request id was used with another payload before.
    pub fn request_id_reused() -> Self {
        let rule = "new for each new request: it was used with another payload within the last 24 hours";
        Self::broken(Reason::RequestIdReused, "request_id", &rule.into())
    }

    /// The page token was not issued for this list.
    pub fn page_token_invalid() -> Self {
        let rule = "the next_page_token of the same list, unchanged, or empty";
        Self::broken(Reason::PageTokenInvalid, "page_token", &rule.into())
    }

    /// No credential came with the call.
    pub fn credential_missing() -> Self {
        Self::new(
            Reason::CredentialMissing,
            "no member credential; send the metadata \"authorization: Bearer {credential}\", once",
        )
    }

    /// The credential is malformed, unknown or revoked. The message does not name which: the caller has not proved who it is.
    pub fn credential_invalid() -> Self {
        Self::new(Reason::CredentialInvalid, "the member credential is malformed, unknown or revoked")
    }

    /// No role of the member gives the permission.
    pub fn permission_denied(permission: &'static str) -> Self {
        Self::new(
            Reason::PermissionDenied,
            format!("needs the permission {permission}, which no role of yours gives here"),
        )
        .with("permission", permission)
    }

    /// The project does not exist, or the caller may not see it.
    pub fn project_not_found(project: &ProjectId) -> Self {
        Self::new(Reason::ProjectNotFound, format!("no project {project} that you may see"))
            .about("keyward/Project", project.name())
    }

    /// The key does not exist, or the caller may not see it.
    pub fn key_not_found(name: &KeyName) -> Self {
        Self::new(Reason::KeyNotFound, format!("no key {name} that you may see")).about("keyward/Key", name.to_string())
    }

    /// The member does not exist.
    pub fn member_not_found(member: &MemberId) -> Self {
        Self::new(Reason::MemberNotFound, format!("no member {member}")).about("keyward/Member", member.name())
    }

    /// An operation that runs one at a time is running. `what` names it.
    pub fn store_busy(what: &str) -> Self {
        Self::new(Reason::StoreUnavailable, format!("{what}; try again later")).retry_after(Duration::from_secs(5))
    }

    /// The member has no such credential.
    pub fn credential_not_found(name: &CredentialName) -> Self {
        Self::new(Reason::CredentialNotFound, format!("no credential {name}"))
            .about("keyward/Credential", name.to_string())
    }

    /// The member already has `limit` roles or credentials; `what` names which.
    pub fn member_limit_reached(member: &MemberId, limit: usize, what: &str) -> Self {
        let message = format!("member {member} has {limit} {what}, which is the limit; revoke one first");
        Self::new(Reason::MemberLimitReached, message).about("keyward/Member", member.name())
    }

    /// The change would leave no owner with a credential, and so no member who could undo it.
    pub fn last_owner(member: &MemberId) -> Self {
        let message = format!(
            "this would leave no owner with a credential, and no member could undo it; make another owner first (the last \
             one is {member})"
        );
        Self::new(Reason::LastOwner, message).about("keyward/Member", member.name())
    }

    /// The epoch in the request is not the database's.
    pub fn epoch_mismatch(current: &Epoch) -> Self {
        let message = format!("the database's epoch is {current} now; review its keys, then accept {current}");
        Self::new(Reason::EpochMismatch, message).with("epoch", current.to_string())
    }

    /// The database's history is not the one that this process published to validators.
    pub fn history_changed() -> Self {
        let message =
            "the database's history has changed under this admin, which is looking up its position in it; try again";
        Self::new(Reason::StoreUnavailable, message).retry_after(Duration::from_secs(1))
    }

    /// The project id is taken.
    pub fn project_id_taken(project: &ProjectId) -> Self {
        Self::new(Reason::ProjectIdTaken, format!("project id {project} is taken"))
            .about("keyward/Project", project.name())
    }

    /// The key name is taken.
    pub fn key_name_taken(name: &KeyName) -> Self {
        Self::new(
            Reason::KeyNameTaken,
            format!("key name {} is taken in project {}; a deactivated key keeps its name", name.key, name.project),
        )
        .about("keyward/Key", name.to_string())
    }

    /// The member id is taken.
    pub fn member_id_taken(member: &MemberId) -> Self {
        Self::new(Reason::MemberIdTaken, format!("member id {member} is taken")).about("keyward/Member", member.name())
    }

    /// The request would end the default key, which stays active as long as its project.
    pub fn default_key_protected(name: &KeyName) -> Self {
        let message = "the default key cannot be deactivated and cannot expire; only support can rotate it";
        Self::new(Reason::DefaultKeyProtected, message).about("keyward/Key", name.to_string())
    }

    /// The token was not stored, so it cannot be shown again.
    pub fn reveal_disabled(name: &KeyName) -> Self {
        let message = "tokens are not stored here: this one was shown when it was created, and cannot be shown again";
        Self::new(Reason::RevealDisabled, message).about("keyward/Key", name.to_string())
    }

    /// The key is deactivated.
    pub fn key_deactivated(name: &KeyName) -> Self {
        Self::new(Reason::KeyDeactivated, "the key is deactivated").about("keyward/Key", name.to_string())
    }

    /// The key cannot be activated: a lost history denied its token, which stays denied until an owner accepts the epoch.
    pub fn key_withheld(name: &KeyName) -> Self {
        let message = "the key is withheld: the database has lost changes, and a lost change had ended its token; an owner \
                       reviews the withheld keys and accepts the epoch (AcceptEpoch), or another key takes its place";
        Self::new(Reason::KeyWithheld, message).about("keyward/Key", name.to_string())
    }

    /// The key was already rotated; `by` is the key that replaces it.
    pub fn key_replaced(name: &KeyName, by: &KeyId) -> Self {
        Self::new(
            Reason::KeyReplaced,
            format!("key {by} already replaces this key; rotate {by}, or activate it if it is deactivated"),
        )
        .about("keyward/Key", name.to_string())
    }

    /// No key has this token.
    pub fn token_unknown() -> Self {
        Self::new(Reason::TokenUnknown, "no key has, or ever had, this token")
    }

    /// The key changed since the caller read it.
    pub fn etag_mismatch(name: &KeyName) -> Self {
        Self::new(Reason::EtagMismatch, "the key changed since you read it; read it again and send its new etag")
            .about("keyward/Key", name.to_string())
    }

    /// The change is committed at `revision`, but `missing` validators may still answer from an older revision.
    pub fn not_yet_enforced(revision: Revision, missing: usize) -> Self {
        Self::new(
            Reason::NotYetEnforced,
            format!("committed at revision {revision}, not yet enforced: validators that may still answer from before it: {missing}; call again to wait on"),
        )
        .with("revision", revision.to_string())
        .with("validators_missing", missing.to_string())
        .retry_after(Duration::from_millis(100))
    }

    /// The validator holds no lease, so it may not answer.
    pub fn no_lease() -> Self {
        Self::new(
            Reason::NoLease,
            "this validator may not answer now: it has no lease, because it is not connected to an admin that can grant one",
        )
        .retry_after(Duration::from_millis(200))
    }

    /// The validator has reached only `reached`, not `asked`, the revision that the caller requires.
    pub fn revision_not_reached(asked: Revision, reached: Revision) -> Self {
        Self::new(
            Reason::RevisionNotReached,
            format!("the request demands revision {asked}, this validator is at {reached}"),
        )
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

    /// The database cannot work now. `what` is the cause, without driver text; `detail` goes to the log only.
    pub fn store_unable(what: &str, detail: impl Into<String>) -> Self {
        Self::new(Reason::StoreUnavailable, format!("{what}; retry with the same request_id"))
            .because(detail)
            .retry_after(Duration::from_secs(1))
    }

    /// The database refuses, and will refuse again until an operator changes something. `what` is the cause, without driver
    /// text; `detail` goes to the log only.
    pub fn store_refused(what: &str, detail: impl Into<String>) -> Self {
        Self::new(Reason::StoreRefused, format!("{what}; nothing was changed, and a retry does not help"))
            .because(detail)
    }

    /// A defect; `detail` goes to the log only.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(Reason::Internal, "internal error; the server's log has more").because(detail)
    }

    /// The process is shutting down.
    pub fn shutting_down() -> Self {
        Self::new(Reason::ShuttingDown, "this process is shutting down; call another one")
            .retry_after(Duration::from_secs(1))
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

/// Attaches the name of a request's field to the rule that its value breaks.
pub trait OnField<T> {
    /// Makes an [`Error::field`] of the rule.
    ///
    /// # Errors
    /// `FIELD_INVALID` or `KEY_NAME_RESERVED` on `field`, a path such as `key.description`.
    fn on_field(self, field: &str) -> Result<T, Error>;
}

impl<T> OnField<T> for Result<T, Rule> {
    fn on_field(self, field: &str) -> Result<T, Error> {
        self.map_err(|rule| Error::field(field, rule))
    }
}
