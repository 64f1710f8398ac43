//! One call of every method that changes something.

use keyward_proto::admin::*;
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, on_project, request_id};
use tonic::Status;

/// The methods that change something. AcceptEpoch has its own test, because it needs a fork of the history.
pub(crate) const METHODS: [&str; 13] = [
    "CreateProject",
    "CreateKey",
    "UpdateKey",
    "DeactivateKey",
    "ActivateKey",
    "RotateKey",
    "RotateDefaultKey",
    "RevealToken",
    "CreateMember",
    "GrantRole",
    "RevokeRole",
    "IssueCredential",
    "RevokeCredential",
];

/// The project of most calls.
pub(crate) const PROJECT: &str = "6666";

/// A call that can be repeated. Everything that it needs exists.
pub(crate) struct Change {
    method: &'static str,
    /// Makes the names unique.
    id: String,
    request_id: String,
    /// The result of the preparation: a token, or the name of a credential.
    prepared: String,
}

/// The effect that must be durable once the call is acknowledged.
#[derive(Debug)]
pub(crate) struct Effect {
    /// The resource of the entry in the log.
    pub(crate) resource: String,
    /// A token with the expected verdict.
    pub(crate) token: Option<(String, Verdict)>,
}

impl Change {
    /// Creates what a call of the method needs.
    pub(crate) async fn prepare(method: &'static str, admin: &Admin, id: String) -> Result<Self, Status> {
        let mut change = Self { method, request_id: request_id(), prepared: String::new(), id };
        let id = &change.id;
        match method {
            "DeactivateKey" | "ActivateKey" | "RotateKey" | "RevealToken" => {
                change.prepared = admin.create_key(PROJECT, id).await?.token;
            }
            "RotateDefaultKey" => change.prepared = admin.create_project(id).await?.default_token,
            "GrantRole" | "IssueCredential" | "RevokeCredential" => drop(admin.create_member(id, &[]).await?),
            "RevokeRole" => drop(admin.create_member(id, &[on_project(Role::Viewer, PROJECT)]).await?),
            _ => {}
        }
        if method == "ActivateKey" {
            admin.deactivate(PROJECT, id).await?;
        }
        if method == "RevokeCredential" {
            let request = IssueCredentialRequest { name: format!("members/{id}"), ..Default::default() };
            change.prepared = admin.members.clone().issue_credential(request).await?.into_inner().credential_name;
        }
        Ok(change)
    }

    /// Calls the method. A second call sends the same request again.
    pub(crate) async fn call(&self, admin: &Admin) -> Result<Effect, Status> {
        let (mut keys, mut members) = (admin.keys.clone(), admin.members.clone());
        let (id, request_id) = (self.id.clone(), self.request_id.clone());
        let key = format!("projects/{PROJECT}/keys/{id}");
        let member = format!("members/{id}");
        let viewer = Some(on_project(Role::Viewer, PROJECT));
        let done = |resource: &str| Ok(Effect { resource: resource.to_owned(), token: None });
        let token = |resource: &str, token: &str, verdict| {
            Ok(Effect { resource: resource.to_owned(), token: Some((token.to_owned(), verdict)) })
        };
        match self.method {
            "CreateProject" => {
                let request = CreateProjectRequest { project_id: id.clone(), request_id, ..Default::default() };
                let made = admin.projects.clone().create_project(request).await?.into_inner();
                token(&format!("projects/{id}"), &made.default_token, Verdict::Valid)
            }
            "CreateKey" => {
                let parent = format!("projects/{PROJECT}");
                let request = CreateKeyRequest { parent, key_id: id, request_id, ..Default::default() };
                let made = keys.create_key(request).await?.into_inner();
                token(&key, &made.token, Verdict::Valid)
            }
            "UpdateKey" => {
                let name = format!("projects/{PROJECT}/keys/updated");
                let update_mask = Some(prost_types::FieldMask { paths: vec!["description".to_owned()] });
                let key = Some(Key { name: name.clone(), description: id, ..Default::default() });
                keys.update_key(UpdateKeyRequest { key, update_mask }).await?;
                done(&name)
            }
            "DeactivateKey" => {
                keys.deactivate_key(DeactivateKeyRequest { name: key.clone(), ..Default::default() }).await?;
                token(&key, &self.prepared, Verdict::Deactivated)
            }
            "ActivateKey" => {
                keys.activate_key(ActivateKeyRequest { name: key.clone(), ..Default::default() }).await?;
                token(&key, &self.prepared, Verdict::Valid)
            }
            "RotateKey" => {
                let new_key_id = format!("{id}_new");
                let request = RotateKeyRequest { name: key.clone(), new_key_id, request_id, ..Default::default() };
                let made = keys.rotate_key(request).await?.into_inner();
                token(&format!("{key}_new"), &made.token, Verdict::Valid)
            }
            "RotateDefaultKey" => {
                let name = admin.list(&id, 0).await?.remove(0).name;
                let request = RotateDefaultKeyRequest { name: name.clone(), request_id, ..Default::default() };
                keys.rotate_default_key(request).await?;
                token(&name, &self.prepared, Verdict::Deactivated)
            }
            "RevealToken" => {
                let shown = keys.reveal_token(RevealTokenRequest { name: key.clone() }).await?.into_inner().token;
                assert_eq!(shown, self.prepared);
                token(&key, &shown, Verdict::Valid)
            }
            "CreateMember" => {
                let request = CreateMemberRequest { member_id: id, request_id, ..Default::default() };
                members.create_member(request).await?;
                done(&member)
            }
            "GrantRole" => {
                members.grant_role(GrantRoleRequest { name: member.clone(), role: viewer }).await?;
                done(&member)
            }
            "RevokeRole" => {
                members.revoke_role(RevokeRoleRequest { name: member.clone(), role: viewer }).await?;
                done(&member)
            }
            "IssueCredential" => {
                members.issue_credential(IssueCredentialRequest { name: member.clone(), request_id }).await?;
                done(&member)
            }
            "RevokeCredential" => {
                members.revoke_credential(RevokeCredentialRequest { name: self.prepared.clone() }).await?;
                done(&member)
            }
            other => panic!("no call for {other}"),
        }
    }
}
