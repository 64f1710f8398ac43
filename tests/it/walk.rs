//! Every method × every role × own and foreign project, compared with the access table in this file.

use std::collections::BTreeSet;

use keyward_proto::admin::*;
use keyward_proto::replica::peer_service_client::PeerServiceClient;
use keyward_proto::replica::replica_service_client::ReplicaServiceClient;
use keyward_proto::replica::{BarrierRequest, GetHeartbeatRequest, Hello, HintRequest, SyncRequest, sync_request};
use keyward_tests::client::{Admin, Transport, on_platform, on_project, reason, transport};
use keyward_tests::keyward::Serve;
use keyward_tests::report;
use prost::Message;
use tonic::{Code, Status};

/// The kind of object that a method acts on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Object {
    /// A project or one of its keys. Hidden from the project roles of other projects.
    Project,
    /// The deployment, or no particular object.
    Platform,
}

/// The letters of the roles: viewer, editor, support, owner, validator (d), admin_node (a), no role (n).
const EVERYONE: &str = "vesodan";

/// Each method with its target and the roles that may call it.
const TABLE: &[(&str, Object, &str)] = &[
    ("ProjectService/CreateProject", Object::Platform, "o"),
    ("ProjectService/GetProject", Object::Project, "veso"),
    ("ProjectService/ListProjects", Object::Platform, "veso"),
    ("KeyService/CreateKey", Object::Project, "eo"),
    ("KeyService/GetKey", Object::Project, "veso"),
    ("KeyService/ListKeys", Object::Project, "veso"),
    ("KeyService/UpdateKey", Object::Project, "eo"),
    ("KeyService/RotateKey", Object::Project, "eo"),
    ("KeyService/RotateDefaultKey", Object::Project, "s"),
    ("KeyService/DeactivateKey", Object::Project, "eo"),
    ("KeyService/ActivateKey", Object::Project, "eo"),
    ("KeyService/RevealToken", Object::Project, "eo"),
    ("KeyService/LookupKey", Object::Platform, "s"),
    ("KeyService/WaitEnforced", Object::Platform, "veso"),
    ("SdkService/ListSdks", Object::Platform, "veso"),
    ("MemberService/CreateMember", Object::Platform, "o"),
    ("MemberService/GetMember", Object::Platform, "o"),
    ("MemberService/ListMembers", Object::Platform, "o"),
    ("MemberService/GrantRole", Object::Platform, "o"),
    ("MemberService/RevokeRole", Object::Platform, "o"),
    ("MemberService/IssueCredential", Object::Platform, "o"),
    ("MemberService/RevokeCredential", Object::Platform, "o"),
    ("MemberService/WhoAmI", Object::Platform, EVERYONE),
    ("AuditService/ListEvents", Object::Project, "veso"),
    ("AuditService/VerifyLog", Object::Platform, "o"),
    ("AuditService/AcceptEpoch", Object::Platform, "o"),
    ("ReplicaService/Sync", Object::Platform, "d"),
    ("PeerService/Barrier", Object::Platform, "a"),
    ("PeerService/GetHeartbeat", Object::Platform, "a"),
    ("PeerService/Hint", Object::Platform, "a"),
];

/// The outcome of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Allowed,
    Denied,
    /// NOT_FOUND, as if the target did not exist.
    Hidden,
}

/// Returns the outcome that the table demands.
fn expected(on: Object, allowed: &str, role: char, own: bool) -> Outcome {
    let project_role = matches!(role, 'v' | 'e');
    match (allowed.contains(role), on) {
        (false, _) => Outcome::Denied,
        (true, Object::Project) if project_role && !own => Outcome::Hidden,
        (true, _) => Outcome::Allowed,
    }
}

/// The objects that a call acts on. They are created anew for each call, so that calls do not affect each other.
struct Target {
    project: String,
    /// An active key of the project, and its default key.
    key: String,
    default_key: String,
    token: String,
    /// A member with a role on the project, and the name of its credential.
    member: String,
    credential: String,
    /// A text that no other target has.
    unique: String,
}

/// A member that makes calls, with the letter of its role.
struct Caller {
    letter: char,
    at: std::net::SocketAddr,
    credential: String,
    admin: Admin,
}

async fn target(root: &Admin, project: &str, n: usize) -> Target {
    let unique = format!("n{n}");
    let created = root.create_key(project, &unique).await.unwrap();
    root.create_member(&unique, &[on_project(Role::Viewer, project)]).await.unwrap();
    let member = format!("members/{unique}");
    let got = root.members.clone().get_member(GetMemberRequest { name: member.clone() }).await.unwrap();
    let credential = got.into_inner().member.unwrap().credentials.remove(0).name;
    let filter = "default_key = true".to_owned();
    let list = ListKeysRequest { parent: format!("projects/{project}"), filter, ..Default::default() };
    let default_key = root.keys.clone().list_keys(list).await.unwrap().into_inner().keys.remove(0).name;
    let key = created.key.unwrap().name;
    Target { project: project.to_owned(), key, default_key, token: created.token, member, credential, unique }
}

/// Makes a call that succeeds for a member with the right role. For every other role it must fail only for lack of the
/// role.
async fn call(caller: &Caller, method: &str, target: &Target) -> Result<(), Status> {
    let Admin { mut projects, mut keys, mut members, mut audit, mut sdks } = caller.admin.clone();
    let (parent, name) = (format!("projects/{}", target.project), target.key.clone());
    let role = Some(on_project(Role::Viewer, &target.project));
    let new_id = format!("{}_new", target.unique);
    match method {
        "ProjectService/CreateProject" => {
            let project_id = format!("{}{}{}", target.unique, target.project, caller.letter);
            projects.create_project(CreateProjectRequest { project_id, ..Default::default() }).await.map(drop)
        }
        "ProjectService/GetProject" => projects.get_project(GetProjectRequest { name: parent }).await.map(drop),
        "ProjectService/ListProjects" => projects.list_projects(ListProjectsRequest::default()).await.map(drop),
        "KeyService/CreateKey" => {
            keys.create_key(CreateKeyRequest { parent, key_id: new_id, ..Default::default() }).await.map(drop)
        }
        "KeyService/GetKey" => keys.get_key(GetKeyRequest { name }).await.map(drop),
        "KeyService/ListKeys" => keys.list_keys(ListKeysRequest { parent, ..Default::default() }).await.map(drop),
        "KeyService/UpdateKey" => {
            let key = Some(Key { name, description: "new".to_owned(), ..Default::default() });
            keys.update_key(UpdateKeyRequest { key, update_mask: None }).await.map(drop)
        }
        "KeyService/RotateKey" => {
            keys.rotate_key(RotateKeyRequest { name, new_key_id: new_id, ..Default::default() }).await.map(drop)
        }
        "KeyService/RotateDefaultKey" => {
            let request = RotateDefaultKeyRequest { name: target.default_key.clone(), ..Default::default() };
            keys.rotate_default_key(request).await.map(drop)
        }
        "KeyService/DeactivateKey" => {
            keys.deactivate_key(DeactivateKeyRequest { name, etag: String::new() }).await.map(drop)
        }
        "KeyService/ActivateKey" => keys.activate_key(ActivateKeyRequest { name, etag: String::new() }).await.map(drop),
        "KeyService/RevealToken" => keys.reveal_token(RevealTokenRequest { name }).await.map(drop),
        "KeyService/LookupKey" => keys.lookup_key(LookupKeyRequest { token: target.token.clone() }).await.map(drop),
        "KeyService/WaitEnforced" => keys.wait_enforced(WaitEnforcedRequest { revision: 1 }).await.map(drop),
        "SdkService/ListSdks" => sdks.list_sdks(ListSdksRequest {}).await.map(drop),
        "MemberService/CreateMember" => {
            let request = CreateMemberRequest { member_id: new_id, ..Default::default() };
            members.create_member(request).await.map(drop)
        }
        "MemberService/GetMember" => {
            members.get_member(GetMemberRequest { name: target.member.clone() }).await.map(drop)
        }
        "MemberService/ListMembers" => members.list_members(ListMembersRequest::default()).await.map(drop),
        "MemberService/GrantRole" => {
            let role = Some(on_platform(Role::Support));
            members.grant_role(GrantRoleRequest { name: target.member.clone(), role }).await.map(drop)
        }
        "MemberService/RevokeRole" => {
            members.revoke_role(RevokeRoleRequest { name: target.member.clone(), role }).await.map(drop)
        }
        "MemberService/IssueCredential" => {
            let request = IssueCredentialRequest { name: target.member.clone(), ..Default::default() };
            members.issue_credential(request).await.map(drop)
        }
        "MemberService/RevokeCredential" => {
            let request = RevokeCredentialRequest { name: target.credential.clone() };
            members.revoke_credential(request).await.map(drop)
        }
        "MemberService/WhoAmI" => members.who_am_i(WhoAmIRequest {}).await.map(drop),
        "AuditService/ListEvents" => {
            audit.list_events(ListEventsRequest { parent, ..Default::default() }).await.map(drop)
        }
        "AuditService/VerifyLog" => audit.verify_log(VerifyLogRequest::default()).await.map(drop),
        "AuditService/AcceptEpoch" => {
            // A caller with the right role gets the error that the epoch does not match.
            let epoch = "3f8a2c6e-2b1d-4b7e-9d55-0c6a2f1f9a10".to_owned();
            match audit.accept_epoch(AcceptEpochRequest { epoch }).await {
                Err(status) if reason(&status) == "EPOCH_MISMATCH" => Ok(()),
                other => other.map(drop),
            }
        }
        "ReplicaService/Sync" => {
            let hello = Hello { protocol: 1, validator_id: "walk".to_owned(), ..Default::default() };
            let hello = SyncRequest { message: Some(sync_request::Message::Hello(hello)) };
            let mut client = ReplicaServiceClient::new(transport(caller.at, Some(&caller.credential)).await);
            client.sync(tokio_stream::iter([hello])).await.map(drop)
        }
        "PeerService/Barrier" => {
            // The life is unknown to this admin, so the barrier is not cleared.
            let request = BarrierRequest {
                incarnation: vec![7; 16],
                epoch: "00000000-0000-4000-8000-000000000000".to_owned(),
                revision: 1,
                chain: vec![7; 32],
            };
            peers(caller).await.barrier(request).await.map(|answer| assert!(!answer.get_ref().cleared))
        }
        "PeerService/GetHeartbeat" => {
            // The life is unknown to this admin, so it has no heartbeat.
            let request = GetHeartbeatRequest { incarnation: keyward_domain::Uid::generate().as_bytes().to_vec() };
            peers(caller).await.get_heartbeat(request).await.map(|answer| assert_eq!(answer.get_ref().age, None))
        }
        "PeerService/Hint" => peers(caller).await.hint(HintRequest { revision: 1 }).await.map(drop),
        other => panic!("no call for {other}: add it here and to the table"),
    }
}

async fn peers(caller: &Caller) -> PeerServiceClient<Transport> {
    PeerServiceClient::new(transport(caller.at, Some(&caller.credential)).await)
}

fn outcome(result: Result<(), Status>) -> Outcome {
    match result {
        Ok(()) => Outcome::Allowed,
        Err(status) if status.code() == Code::PermissionDenied => {
            assert_eq!(reason(&status), "PERMISSION_DENIED");
            Outcome::Denied
        }
        Err(status) if matches!(reason(&status).as_str(), "PROJECT_NOT_FOUND" | "KEY_NOT_FOUND") => Outcome::Hidden,
        Err(status) => panic!("neither success nor a refusal: {status:?}"),
    }
}

/// Returns `Service/Method` of every method that the admin serves, from the contract's descriptors.
fn methods() -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(keyward_proto::DESCRIPTOR_SET).unwrap();
    let files = set.file.into_iter().filter(|file| file.package() != "keyward.validate.v1");
    let services = files.flat_map(|file| file.service);
    services
        .flat_map(|service| {
            let name = service.name().to_owned();
            service.method.into_iter().map(move |method| format!("{name}/{}", method.name()))
        })
        .collect()
}

#[tokio::test]
async fn every_method_is_allowed_denied_or_hidden_for_every_role_as_in_the_access_table() {
    let walked: BTreeSet<_> = TABLE.iter().map(|(method, ..)| (*method).to_owned()).collect();
    assert_eq!(walked, methods(), "a method of the contract without a row, or a row without a method");
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    for project in ["6666", "7777"] {
        root.create_project(project).await.unwrap();
    }
    let mut callers = Vec::new();
    for (letter, roles) in [
        ('v', vec![on_project(Role::Viewer, "6666")]),
        ('e', vec![on_project(Role::Editor, "6666")]),
        ('s', vec![on_platform(Role::Support)]),
        ('o', vec![on_platform(Role::Owner)]),
        ('d', vec![on_platform(Role::Validator)]),
        ('a', vec![on_platform(Role::AdminNode)]),
        ('n', vec![]),
    ] {
        let credential = root.create_member(&format!("caller-{letter}"), &roles).await.unwrap();
        let admin = Admin::connect(serve.admin, &credential).await;
        callers.push(Caller { letter, at: serve.admin, credential, admin });
    }
    let mut calls = 0;
    for (method, on, allowed) in TABLE {
        for caller in &callers {
            for (project, own) in [("6666", true), ("7777", false)] {
                let target = target(&root, project, calls).await;
                let got = outcome(call(caller, method, &target).await);
                let wanted = expected(*on, allowed, caller.letter, own);
                assert_eq!(got, wanted, "{method} by {} on {project}", caller.letter);
                calls += 1;
            }
        }
    }
    report::line(&format!("{} methods × 7 roles × 2 projects: {calls} calls, each as in the table", TABLE.len()));
}
