//! The main operations through grpcurl, as an operator without Keyward's CLI uses them.

use keyward_tests::grpcurl::{call, list};
use keyward_tests::keyward::Serve;
use serde_json::{Value, json};

const CREATE_PROJECT: &str = "keyward.admin.v1.ProjectService/CreateProject";
const CREATE_KEY: &str = "keyward.admin.v1.KeyService/CreateKey";
const LIST_KEYS: &str = "keyward.admin.v1.KeyService/ListKeys";
const DEACTIVATE_KEY: &str = "keyward.admin.v1.KeyService/DeactivateKey";
const VALIDATE_TOKEN: &str = "keyward.validate.v1.ValidateService/ValidateToken";

/// Returns grpcurl's exit code for a gRPC code.
const fn exit(code: tonic::Code) -> i32 {
    64 + code as i32
}

#[test]
fn a_new_key_is_valid_at_once_and_refused_as_soon_as_deactivate_returns() {
    let serve = Serve::start();
    let root = serve.root();
    let admin = |method, request: Value| call(serve.admin, &root, method, &request);
    let verdict = |token: &Value| call(serve.validator, "", VALIDATE_TOKEN, &json!({ "token": token })).answer;

    let created = admin(CREATE_PROJECT, json!({ "project_id": "6666" })).answer;
    let default_key = &created["defaultKey"];
    let default_name = default_key["name"].as_str().unwrap();
    let suffix = default_name.strip_prefix("projects/6666/keys/6666_default_").unwrap();
    assert!(suffix.len() == 6 && suffix.bytes().all(|b| b.is_ascii_digit()), "{default_name}");
    assert_eq!((&default_key["state"], &default_key["defaultKey"]), (&json!("STATE_ACTIVE"), &json!(true)));
    assert_eq!(verdict(&created["defaultToken"])["verdict"], "VERDICT_VALID");

    let request = json!({ "parent": "projects/6666", "key_id": "server_prod", "key": { "description": "the shop" } });
    let made = admin(CREATE_KEY, request).answer;
    assert_eq!(made["key"]["name"], "projects/6666/keys/server_prod");
    assert_eq!(made["receipt"]["enforcedBy"], "ENFORCED_BY_ACKS");
    let token = &made["token"];

    let listed = admin(LIST_KEYS, json!({ "parent": "projects/6666" })).answer;
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
    for key in listed["keys"].as_array().unwrap() {
        let masked = key["maskedToken"].as_str().unwrap();
        assert!(masked.starts_with("kw_…") && masked.chars().count() == 8, "{masked}");
    }
    assert!(!listed.to_string().contains(token.as_str().unwrap()));

    let valid = verdict(token);
    assert_eq!(valid["verdict"], "VERDICT_VALID");
    assert_eq!((&valid["project"], &valid["key"]), (&json!("6666"), &json!("projects/6666/keys/server_prod")));

    let done = admin(DEACTIVATE_KEY, json!({ "name": "projects/6666/keys/server_prod" })).answer;
    assert_eq!(
        (&done["key"]["state"], &done["key"]["deactivator"]),
        (&json!("STATE_DEACTIVATED"), &json!("members/root"))
    );
    assert_eq!(
        (&done["receipt"]["enforcedBy"], &done["receipt"]["validatorsAcked"]),
        (&json!("ENFORCED_BY_ACKS"), &json!(1))
    );
    assert_eq!(verdict(token)["verdict"], "VERDICT_DEACTIVATED");
    assert_eq!(verdict(&created["defaultToken"])["verdict"], "VERDICT_VALID");
}

#[test]
fn the_default_key_cannot_be_deactivated_and_its_name_pattern_is_reserved() {
    let serve = Serve::start();
    let root = serve.root();
    let created = call(serve.admin, &root, CREATE_PROJECT, &json!({ "project_id": "6666" })).answer;
    let name = &created["defaultKey"]["name"];
    let refused = call(serve.admin, &root, DEACTIVATE_KEY, &json!({ "name": name }));
    assert_eq!(refused.code, exit(tonic::Code::FailedPrecondition), "{}", refused.error);
    // The error details are registered with reflection, so that grpcurl can print them.
    assert!(refused.error.contains("DEFAULT_KEY_PROTECTED"), "{}", refused.error);
    let token = &created["defaultToken"];
    let verdict = call(serve.validator, "", VALIDATE_TOKEN, &json!({ "token": token })).answer;
    assert_eq!(verdict["verdict"], "VERDICT_VALID");

    for spoof in ["6666_default_000000", "7777_default_193444"] {
        let request = json!({ "parent": "projects/6666", "key_id": spoof });
        let refused = call(serve.admin, &root, CREATE_KEY, &request);
        assert_eq!(refused.code, exit(tonic::Code::InvalidArgument), "{}", refused.error);
        assert!(refused.error.contains("KEY_NAME_RESERVED"), "{}", refused.error);
    }
}

#[test]
fn the_admin_requires_a_credential_and_the_validator_requires_none() {
    let serve = Serve::start();
    let services = list(serve.admin, &serve.root());
    for service in ["keyward.admin.v1.KeyService", "keyward.admin.v1.ProjectService", "keyward.admin.v1.MemberService"]
    {
        assert!(services.contains(service), "{services}");
    }
    assert!(!list(serve.admin, "").contains("keyward"), "reflection answered without a credential");
    assert!(list(serve.validator, "").contains("keyward.validate.v1.ValidateService"));
}
