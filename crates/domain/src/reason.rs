use strum::{IntoStaticStr, VariantArray};

/// How a call failed, as one of the few standard gRPC codes that every transport can render.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The caller did not prove who it is.
    Unauthenticated,
    /// The caller may not do this.
    PermissionDenied,
    /// The request breaks a rule; sending it again will not help.
    InvalidArgument,
    /// The resource does not exist, or the caller may not see it.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The resource is not in a state that allows this.
    FailedPrecondition,
    /// The resource changed since the caller read it; read it again.
    Aborted,
    /// Not finished in time.
    DeadlineExceeded,
    /// More than the caller may use at a time; retry with less.
    ResourceExhausted,
    /// Not possible now; retry.
    Unavailable,
    /// A defect.
    Internal,
}

/// Why a call failed: one variant for each value of `keyward.admin.v1.ErrorReason`, which documents them.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq, VariantArray)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
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
    KeyWithheld,
    RequestUnreadable,
    Overloaded,
}

impl Reason {
    /// Every reason.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The reason on the wire, such as `KEY_NAME_TAKEN`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The gRPC code that it travels with.
    pub const fn kind(self) -> Kind {
        match self {
            Self::CredentialMissing | Self::CredentialInvalid => Kind::Unauthenticated,
            Self::PermissionDenied => Kind::PermissionDenied,
            Self::FieldInvalid
            | Self::KeyNameReserved
            | Self::RequestIdReused
            | Self::PageTokenInvalid
            | Self::RequestUnreadable => Kind::InvalidArgument,
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
            | Self::KeyWithheld
            | Self::MemberLimitReached
            | Self::LastOwner
            | Self::StoreRefused
            | Self::SyncProtocolViolated => Kind::FailedPrecondition,
            Self::EtagMismatch | Self::EpochMismatch => Kind::Aborted,
            Self::NotYetEnforced => Kind::DeadlineExceeded,
            Self::NoLease | Self::RevisionNotReached | Self::StoreUnavailable | Self::ShuttingDown => Kind::Unavailable,
            Self::Overloaded => Kind::ResourceExhausted,
            Self::Internal => Kind::Internal,
        }
    }
}
