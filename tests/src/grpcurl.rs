//! grpcurl, the command-line gRPC client that operators use.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use crate::parts;

/// The outcome of a call.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The response, or JSON null if the call failed.
    pub answer: Value,
    /// The text that grpcurl wrote to stderr, including the error's details.
    pub error: String,
    /// Exit code: 0, or 64 plus the gRPC code.
    pub code: i32,
}

/// Calls `method` with a JSON request. grpcurl gets the schema by server reflection. An empty credential sends none.
///
/// # Panics
/// If grpcurl cannot be run.
pub fn call(at: SocketAddr, credential: &str, method: &str, request: &Value) -> Outcome {
    let mut command = Command::new(parts::grpcurl());
    command.args(["-plaintext", "-format-error"]);
    if !credential.is_empty() {
        command.args(["-H", &format!("authorization: Bearer {credential}")]);
    }
    let output = command.args(["-d", &request.to_string(), &at.to_string(), method]).output().unwrap();
    Outcome {
        answer: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
        error: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

/// Returns the output of `grpcurl list`.
///
/// # Panics
/// If grpcurl cannot be run.
pub fn list(at: SocketAddr, credential: &str) -> String {
    let mut command = Command::new(parts::grpcurl());
    command.arg("-plaintext");
    if !credential.is_empty() {
        command.args(["-H", &format!("authorization: Bearer {credential}")]);
    }
    let output = command.args([&at.to_string(), "list"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
