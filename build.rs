//! Compiles `proto/` for `crates/proto`, whose `Cargo.toml` names this file as its build script. Uses protox, a
//! protobuf compiler in Rust, so that no `protoc` needs to be installed.

use std::error::Error;
use std::path::{Path, PathBuf};

/// Files whose packages gRPC reflection publishes.
const PUBLIC: &[&str] = &[
    "keyward/admin/v1/audit_service.proto",
    "keyward/admin/v1/error_reason.proto",
    "keyward/admin/v1/key_service.proto",
    "keyward/admin/v1/member_service.proto",
    "keyward/admin/v1/project.proto",
    "keyward/admin/v1/sdk_service.proto",
    "keyward/replica/v1/peer_service.proto",
    "keyward/replica/v1/replica_service.proto",
    "keyward/validate/v1/validate_service.proto",
];

/// Files that gRPC reflection does not publish: the copied subset of Envoy's package is incomplete.
const ENVOY: &[&str] = &["envoy/service/auth/v3/external_auth.proto"];

/// Messages of [`PUBLIC`] that contain a secret. `crates/proto/src/redact.rs` implements their `Debug` by hand.
const SECRET: &[&str] = &[
    ".keyward.admin.v1.CreateProjectResponse",
    ".keyward.admin.v1.CreateKeyResponse",
    ".keyward.admin.v1.CreateMemberResponse",
    ".keyward.admin.v1.IssueCredentialResponse",
    ".keyward.admin.v1.RotateKeyResponse",
    ".keyward.admin.v1.RotateDefaultKeyResponse",
    ".keyward.admin.v1.RevealTokenResponse",
    ".keyward.admin.v1.LookupKeyRequest",
    ".keyward.validate.v1.ValidateTokenRequest",
    ".keyward.replica.v1.DigestKey",
];

/// Messages of [`ENVOY`] that contain a secret: headers and query strings may contain tokens. `redact.rs` implements
/// their `Debug` by hand.
const ENVOY_SECRET: &[&str] =
    &[".envoy.service.auth.v3.AttributeContext.HttpRequest", ".envoy.service.auth.v3.HeaderValue"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    println!("cargo:rerun-if-changed={}", root.join("proto").display());
    println!("cargo:rerun-if-changed={}", root.join("build.rs").display());
    compile(&root, PUBLIC, SECRET, "keyward_descriptor.bin")?;
    compile(&root, ENVOY, ENVOY_SECRET, "envoy_descriptor.bin")
}

fn compile(root: &Path, files: &[&str], secret: &[&str], descriptor: &str) -> Result<(), Box<dyn Error>> {
    let mut compiler = protox::Compiler::new([root.join("proto")])?;
    compiler.include_source_info(true).include_imports(true).open_files(files)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join(descriptor), compiler.encode_file_descriptor_set())?;
    // Sorted maps give each message exactly one encoding. The admin compares the payloads of a request_id by the hash
    // of their encoding.
    let builder = tonic_prost_build::configure().skip_debug(secret).btree_map(".");
    let mut config = tonic_prost_build::Config::new();
    // The CLI finds the descriptor of a message by its type name, to print the message as JSON.
    config.enable_type_names();
    builder.compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
