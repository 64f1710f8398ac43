#![doc = include_str!("../README.md")]

mod redact;

/// The public contract.
pub mod keyward {
    /// The key-admin service.
    pub mod admin {
        /// Version 1.
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
    /// The replica protocol between admins and validators.
    pub mod replica {
        /// Version 1.
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
    /// The validator's own service.
    pub mod validate {
        /// Version 1.
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

/// The wire-compatible subset of Envoy's ext_authz v3.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated from commented protos")]
pub mod envoy {
    tonic::include_proto!("envoy.service.auth.v3");
}

pub use keyward::{admin::v1 as admin, replica::v1 as replica, validate::v1 as validate};

/// The descriptor set of every `keyward.*` package with its imports, comments included; for reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keyward_descriptor.bin"));
