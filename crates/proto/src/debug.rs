//! `Debug` of the messages that contain secrets, as `build.rs` generates it from the option `debug_redact` of their fields.

include!(concat!(env!("OUT_DIR"), "/keyward_debug.rs"));
include!(concat!(env!("OUT_DIR"), "/envoy_debug.rs"));

#[cfg(test)]
mod tests {
    use crate::{admin, envoy, replica, validate};

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
