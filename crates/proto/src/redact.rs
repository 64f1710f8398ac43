//! `Debug` implementations of the messages that contain secrets. They print the length of a secret in place of its
//! text. `build.rs` lists these messages and generates them without `Debug`.

use std::fmt::{Debug, Formatter, Result};

use crate::{admin, envoy, replica, validate};

/// Stands for a secret of the given length in bytes, and prints only that length.
struct Redacted(usize);

impl Debug for Redacted {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "<{} bytes redacted>", self.0)
    }
}

impl Debug for admin::CreateProjectResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("CreateProjectResponse")
            .field("project", &self.project)
            .field("default_key", &self.default_key)
            .field("default_token", &Redacted(self.default_token.len()))
            .field("receipt", &self.receipt)
            .finish()
    }
}

impl Debug for admin::CreateKeyResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("CreateKeyResponse")
            .field("key", &self.key)
            .field("token", &Redacted(self.token.len()))
            .field("receipt", &self.receipt)
            .finish()
    }
}

impl Debug for admin::RotateKeyResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("RotateKeyResponse")
            .field("key", &self.key)
            .field("token", &Redacted(self.token.len()))
            .field("old_key", &self.old_key)
            .field("receipt", &self.receipt)
            .finish()
    }
}

impl Debug for admin::RotateDefaultKeyResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("RotateDefaultKeyResponse")
            .field("key", &self.key)
            .field("token", &Redacted(self.token.len()))
            .field("receipt", &self.receipt)
            .finish()
    }
}

impl Debug for admin::RevealTokenResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("RevealTokenResponse").field("token", &Redacted(self.token.len())).finish()
    }
}

impl Debug for admin::LookupKeyRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("LookupKeyRequest").field("token", &Redacted(self.token.len())).finish()
    }
}

impl Debug for admin::CreateMemberResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("CreateMemberResponse")
            .field("member", &self.member)
            .field("credential", &Redacted(self.credential.len()))
            .field("receipt", &self.receipt)
            .finish()
    }
}

impl Debug for admin::IssueCredentialResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("IssueCredentialResponse")
            .field("member", &self.member)
            .field("credential", &Redacted(self.credential.len()))
            .field("credential_name", &self.credential_name)
            .field("receipt", &self.receipt)
            .finish()
    }
}

impl Debug for validate::ValidateTokenRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("ValidateTokenRequest")
            .field("token", &Redacted(self.token.len()))
            .field("project", &self.project)
            .field("allow_client_keys", &self.allow_client_keys)
            .field("consistency", &self.consistency().as_str_name())
            .field("min_revision", &self.min_revision)
            .finish()
    }
}

impl Debug for replica::DigestKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("DigestKey").field("id", &self.id).field("key", &Redacted(self.key.len())).finish()
    }
}

impl Debug for envoy::HeaderValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let length = self.value.len() + self.raw_value.len();
        f.debug_struct("HeaderValue").field("key", &self.key).field("value", &Redacted(length)).finish()
    }
}

/// Omits headers, path and query, which may contain credentials.
impl Debug for envoy::attribute_context::HttpRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("HttpRequest")
            .field("id", &self.id)
            .field("method", &self.method)
            .field("host", &self.host)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_message_never_shows_its_secret() {
        let secret = || "S3CRET".to_owned();
        let header = envoy::HeaderValue { value: secret(), raw_value: b"S3CRET".to_vec(), ..Default::default() };
        let request = envoy::attribute_context::HttpRequest {
            path: "/?key=S3CRET".to_owned(),
            headers: [("authorization".to_owned(), secret())].into(),
            header_map: Some(envoy::attribute_context::HeaderMap { headers: vec![header.clone()] }),
            ..Default::default()
        };
        let welcome = replica::SyncResponse {
            message: Some(replica::sync_response::Message::Welcome(replica::Welcome {
                digest_keys: vec![replica::DigestKey { id: 1, key: b"S3CRET".to_vec() }],
                ..Default::default()
            })),
        };
        let printed = [
            format!("{:?}", admin::CreateProjectResponse { default_token: secret(), ..Default::default() }),
            format!("{:?}", admin::CreateKeyResponse { token: secret(), ..Default::default() }),
            format!("{:?}", admin::CreateMemberResponse { credential: secret(), ..Default::default() }),
            format!("{:?}", admin::IssueCredentialResponse { credential: secret(), ..Default::default() }),
            format!("{:?}", admin::RotateKeyResponse { token: secret(), ..Default::default() }),
            format!("{:?}", admin::RotateDefaultKeyResponse { token: secret(), ..Default::default() }),
            format!("{:?}", admin::RevealTokenResponse { token: secret() }),
            format!("{:?}", admin::LookupKeyRequest { token: secret() }),
            format!("{:?}", validate::ValidateTokenRequest { token: secret(), ..Default::default() }),
            format!("{header:?} {request:?} {welcome:?}"),
        ];
        for text in printed {
            // A Vec<u8> prints as numbers: 83, 51, 67 is "S3C".
            assert!(!text.contains("S3CRET") && !text.contains("83, 51, 67"), "{text}");
        }
    }
}
