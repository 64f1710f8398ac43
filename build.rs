//! Compiles `proto/` for `crates/proto`, whose `Cargo.toml` names this file as its build script. Uses protox, a
//! protobuf compiler in Rust, so that no `protoc` needs to be installed.
//!
//! Fields with the option `debug_redact` hold secrets. Messages with such fields get a `Debug` that prints `<redacted>` in
//! place of the secret.

use std::error::Error;
use std::path::{Path, PathBuf};

use protox::prost_reflect::{FieldDescriptor, MessageDescriptor};

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

/// The protobuf packages that are compiled, each with the module of `crates/proto` that has its messages.
const MODULES: &[(&str, &str)] = &[
    ("envoy.service.auth.v3", "envoy"),
    ("keyward.admin.v1", "admin"),
    ("keyward.replica.v1", "replica"),
    ("keyward.validate.v1", "validate"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    println!("cargo:rerun-if-changed={}", root.join("proto").display());
    println!("cargo:rerun-if-changed={}", root.join("build.rs").display());
    compile(&root, PUBLIC, "keyward")?;
    compile(&root, ENVOY, "envoy")
}

fn compile(root: &Path, files: &[&str], name: &str) -> Result<(), Box<dyn Error>> {
    let mut compiler = protox::Compiler::new([root.join("proto")])?;
    compiler.include_source_info(true).include_imports(true).open_files(files)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join(format!("{name}_descriptor.bin")), compiler.encode_file_descriptor_set())?;
    let (mut secret, mut debug) = (Vec::new(), String::new());
    for message in compiler.descriptor_pool().all_messages().filter(|message| message.fields().any(|f| is_redacted(&f)))
    {
        secret.push(format!(".{}", message.full_name()));
        debug.push_str(&redacting_debug(&message)?);
    }
    std::fs::write(out.join(format!("{name}_debug.rs")), debug)?;
    // Sorted maps give each message exactly one encoding. The admin compares the payloads of a request_id by the hash
    // of their encoding.
    let builder = tonic_prost_build::configure().skip_debug(secret).btree_map(".");
    let mut config = tonic_prost_build::Config::new();
    // The CLI finds the descriptor of a message by its type name, to print the message as JSON.
    config.enable_type_names();
    builder.compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}

/// Returns `true` if the field has the option `debug_redact` of protobuf: it holds a secret.
fn is_redacted(field: &FieldDescriptor) -> bool {
    field.options().get_field_by_name("debug_redact").is_some_and(|value| value.as_bool() == Some(true))
}

/// The `Debug` of a message with redacted fields. The one that prost generates ignores the option.
fn redacting_debug(message: &MessageDescriptor) -> Result<String, Box<dyn Error>> {
    let package = message.package_name();
    let (_, module) = MODULES.iter().find(|(name, _)| *name == package).ok_or("a secret in an unknown package")?;
    // prost puts a nested message into a module with the name of the message around it.
    let nested = message.full_name().strip_prefix(package).unwrap_or_default().trim_start_matches('.');
    let (around, name) = nested.rsplit_once('.').map_or((String::new(), nested), |(around, name)| {
        (around.split('.').map(|name| format!("{}::", snake_case(name))).collect(), name)
    });
    let mut code = format!(
        "impl ::core::fmt::Debug for crate::{module}::{around}{name} {{\n    \
         fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        \
         f.debug_struct(\"{name}\")\n"
    );
    for field in message.fields() {
        let name = field.name();
        // The generated code has one field for all fields of a oneof.
        if field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic()) {
            return Err(format!("{}: a message with a redacted field cannot have a oneof", message.full_name()).into());
        }
        let value =
            if is_redacted(&field) { "::core::format_args!(\"<redacted>\")" } else { &format!("self.r#{name}") };
        code.push_str(&format!("            .field(\"{name}\", &{value})\n"));
    }
    code.push_str("            .finish()\n    }\n}\n");
    Ok(code)
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
