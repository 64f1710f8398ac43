use serde::{Deserialize, Serialize};

use crate::member::Permission;

/// A method of the admin API that returns a new secret, and returns the same secret again to a retry of the request.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Issuance {
    /// `CreateProject`, which returns the token of the default key.
    CreateProject,
    /// `CreateKey`.
    CreateKey,
    /// `RotateKey`, which returns the token of the new key.
    RotateKey,
    /// `CreateMember`, which returns the first credential.
    CreateMember,
    /// `IssueCredential`.
    IssueCredential,
}

impl Issuance {
    /// The permission that the method requires, also of a retry.
    pub const fn permission(self) -> Permission {
        match self {
            Self::CreateProject => Permission::ProjectCreate,
            Self::CreateKey => Permission::KeyCreate,
            Self::RotateKey => Permission::KeyRotate,
            Self::CreateMember => Permission::MemberCreate,
            Self::IssueCredential => Permission::MemberUpdate,
        }
    }

    /// Returns `true` if the permission is required on the project of the key, `false` if it is required on the deployment.
    pub const fn is_on_project(self) -> bool {
        matches!(self, Self::CreateKey | Self::RotateKey)
    }
}
