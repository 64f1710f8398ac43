//! The one table of which method requires which permission. A method that is not in it is denied.

use keyward_domain::Permission;

/// Which callers the layer admits to a method. The handler then authorizes the call on its resource, such as by
/// [`Caller::on_project`](crate::auth::Caller::on_project).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Access {
    /// Everyone, without a credential: the method reveals nothing about keys.
    Anyone,
    /// Any member.
    AnyMember,
    /// A member with a role that gives this permission on at least one project or on the deployment.
    Needs(Permission),
}

/// The path of each method, and who may call it.
const TABLE: &[(&str, Access)] = &[
    ("/keyward.admin.v1.ProjectService/CreateProject", Access::Needs(Permission::ProjectCreate)),
    ("/keyward.admin.v1.ProjectService/GetProject", Access::Needs(Permission::ProjectGet)),
    ("/keyward.admin.v1.ProjectService/ListProjects", Access::Needs(Permission::ProjectGet)),
    ("/keyward.admin.v1.KeyService/CreateKey", Access::Needs(Permission::KeyCreate)),
    ("/keyward.admin.v1.KeyService/GetKey", Access::Needs(Permission::KeyGet)),
    ("/keyward.admin.v1.KeyService/ListKeys", Access::Needs(Permission::KeyGet)),
    ("/keyward.admin.v1.KeyService/DeactivateKey", Access::Needs(Permission::KeyDeactivate)),
    ("/keyward.admin.v1.KeyService/UpdateKey", Access::Needs(Permission::KeyUpdate)),
    ("/keyward.admin.v1.KeyService/RotateKey", Access::Needs(Permission::KeyRotate)),
    ("/keyward.admin.v1.KeyService/RotateDefaultKey", Access::Needs(Permission::DefaultKeyRotate)),
    ("/keyward.admin.v1.KeyService/ActivateKey", Access::Needs(Permission::KeyActivate)),
    ("/keyward.admin.v1.KeyService/RevealToken", Access::Needs(Permission::KeyReveal)),
    ("/keyward.admin.v1.KeyService/LookupKey", Access::Needs(Permission::KeyLookup)),
    ("/keyward.admin.v1.KeyService/WaitEnforced", Access::Needs(Permission::KeyGet)),
    ("/keyward.admin.v1.MemberService/CreateMember", Access::Needs(Permission::MemberCreate)),
    ("/keyward.admin.v1.MemberService/GetMember", Access::Needs(Permission::MemberGet)),
    ("/keyward.admin.v1.MemberService/ListMembers", Access::Needs(Permission::MemberGet)),
    ("/keyward.admin.v1.MemberService/GrantRole", Access::Needs(Permission::MemberUpdate)),
    ("/keyward.admin.v1.MemberService/RevokeRole", Access::Needs(Permission::MemberUpdate)),
    ("/keyward.admin.v1.MemberService/IssueCredential", Access::Needs(Permission::MemberUpdate)),
    ("/keyward.admin.v1.MemberService/RevokeCredential", Access::Needs(Permission::MemberUpdate)),
    ("/keyward.admin.v1.MemberService/WhoAmI", Access::AnyMember),
    ("/keyward.admin.v1.SdkService/ListSdks", Access::Needs(Permission::ProjectGet)),
    ("/keyward.admin.v1.AuditService/ListEvents", Access::Needs(Permission::AuditGet)),
    ("/keyward.admin.v1.AuditService/VerifyLog", Access::Needs(Permission::AuditVerify)),
    ("/keyward.admin.v1.AuditService/AcceptEpoch", Access::Needs(Permission::EpochAccept)),
    ("/keyward.replica.v1.ReplicaService/Sync", Access::Needs(Permission::Sync)),
    ("/keyward.replica.v1.PeerService/Barrier", Access::Needs(Permission::Peer)),
    ("/keyward.replica.v1.PeerService/GetHeartbeat", Access::Needs(Permission::Peer)),
    ("/keyward.replica.v1.PeerService/Hint", Access::Needs(Permission::Peer)),
    // Health probes have no credential.
    ("/grpc.health.v1.Health/Check", Access::Anyone),
    ("/grpc.health.v1.Health/Watch", Access::Anyone),
    ("/grpc.health.v1.Health/List", Access::Anyone),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::AnyMember),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Access::AnyMember),
];

/// Returns who may call the method of this path; `None` if it is not listed.
pub(super) fn of(path: &str) -> Option<Access> {
    TABLE.iter().find(|(listed, _)| *listed == path).map(|(_, access)| *access)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn the_table_lists_the_methods_of_the_contract_and_no_other() {
        let set = FileDescriptorSet::decode(keyward_proto::DESCRIPTOR_SET).unwrap();
        let mut contract = BTreeSet::new();
        for file in &set.file {
            // The admin does not serve the validator's service.
            for service in file.service.iter().filter(|_| file.package() != "keyward.validate.v1") {
                for method in &service.method {
                    contract.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
        let listed: BTreeSet<_> =
            TABLE.iter().map(|(path, _)| (*path).to_owned()).filter(|p| p.starts_with("/keyward.")).collect();
        assert_eq!(listed, contract);
        assert_eq!(of("/keyward.admin.v1.KeyService/Nonesuch"), None);
    }
}
