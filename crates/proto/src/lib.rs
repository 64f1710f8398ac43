#![doc = include_str!("../README.md")]

mod debug;

/// The generated code of the `keyward.*` protobuf packages.
pub mod keyward {
    /// The API of the key-admin service.
    pub mod admin {
        /// Package `keyward.admin.v1`.
        #[allow(
            missing_docs,
            clippy::all,
            clippy::pedantic,
            unreachable_pub,
            reason = "generated from commented protos"
        )]
        pub mod v1 {
            tonic::include_proto!("keyward.admin.v1");
        }
    }
    /// The internal protocols between admins and validators, and among admins.
    pub mod replica {
        /// Package `keyward.replica.v1`.
        #[allow(
            missing_docs,
            clippy::all,
            clippy::pedantic,
            unreachable_pub,
            reason = "generated from commented protos"
        )]
        pub mod v1 {
            tonic::include_proto!("keyward.replica.v1");
        }
    }
    /// The API of the validator.
    pub mod validate {
        /// Package `keyward.validate.v1`.
        #[allow(
            missing_docs,
            clippy::all,
            clippy::pedantic,
            unreachable_pub,
            reason = "generated from commented protos"
        )]
        pub mod v1 {
            tonic::include_proto!("keyward.validate.v1");
        }
    }
}

/// Package `envoy.service.auth.v3`: a wire-compatible subset of Envoy's ext_authz v3 API.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated from commented protos")]
pub mod envoy {
    tonic::include_proto!("envoy.service.auth.v3");
}

pub use keyward::{admin::v1 as admin, replica::v1 as replica, validate::v1 as validate};

/// Encoded `FileDescriptorSet` of all `keyward.*` packages and their imports, with comments. For gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keyward_descriptor.bin"));
