//! Compiles `proto/` for `crates/proto`, which names this file as its build script (a virtual workspace has none of its
//! own). protox is a protobuf compiler in Rust, so no `protoc` has to be on the machine.

use std::error::Error;
use std::path::{Path, PathBuf};

/// What a client or an operator may see through reflection.
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

/// Compiled apart: a flattened subset of Envoy's package must not pose as the whole through reflection.
const ENVOY: &[&str] = &["envoy/service/auth/v3/external_auth.proto"];

/// Messages that hold a secret: their `Debug` is written by hand in `crates/proto/src/redact.rs`.
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

/// The same in Envoy's package: request headers and query strings carry what clients present.
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
    // `tonic_build` alone has no prost half since 0.14; `tonic_prost_build` drives it.
    // Maps in order, so that a message has one encoding: request ids compare payloads by their hash.
    let builder = tonic_prost_build::configure().skip_debug(secret).btree_map(".");
    let mut config = tonic_prost_build::Config::new();
    // So that a message can be found in the descriptors, for its JSON form.
    config.enable_type_names();
    builder.compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
