//! The operator's CLI.

use std::process::Command;

use keyward_proto::validate::Verdict;
use keyward_tests::client::ValidatorClient;
use keyward_tests::keyward::{Serve, write_secret};
use serde_json::Value;

/// Runs a command. Returns `true` if it succeeded, its stdout and its stderr.
fn run(command: &mut Command) -> (bool, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn commands_print_only_the_result_on_stdout() {
    let serve = Serve::start();
    let client = ValidatorClient::connect(serve.validator).await;
    let (ok, default_token, _) = run(&mut serve.operator(&["projects", "create", "6666"]));
    assert!(ok);
    assert_eq!(client.verdict(&default_token).await, Verdict::Valid);
    let create = ["keys", "create", "server_prod", "--project", "6666", "--description", "the shop"];
    let (ok, token, stderr) = run(&mut serve.operator(&create));
    assert!(ok && stderr.contains("projects/6666/keys/server_prod") && !stderr.contains(&token), "{stderr}");
    assert_eq!(client.verdict(&token).await, Verdict::Valid);

    let (ok, list, _) = run(&mut serve.operator(&["keys", "list", "--project", "6666"]));
    assert!(ok && list.contains("server_prod") && list.contains("the shop") && !list.contains(&token), "{list}");

    let (ok, out, stderr) = run(&mut serve.operator(&["keys", "deactivate", "server_prod", "--project", "6666"]));
    assert!(ok && out.is_empty() && stderr.contains("deactivated projects/6666/keys/server_prod"), "{stderr}");
    assert_eq!(client.verdict(&token).await, Verdict::Deactivated);

    let (ok, out, stderr) = run(&mut serve.operator(&["keys", "activate", "server_prod", "--project", "6666"]));
    assert!(ok && out.is_empty() && stderr.contains("is active"), "{stderr}");
    let (ok, out, _) = run(&mut serve.operator(&["keys", "reveal", "server_prod", "--project", "6666"]));
    assert!(ok && out == token);
    assert_eq!(client.verdict(&token).await, Verdict::Valid);
    let describe = ["keys", "describe", "server_prod", "the other shop", "--project", "6666"];
    assert!(run(&mut serve.operator(&describe)).0);
    let (_, list, _) = run(&mut serve.operator(&["keys", "list", "--project", "6666"]));
    assert!(list.contains("the other shop") && !list.contains("the shop"), "{list}");

    let rotate = ["keys", "rotate", "server_prod", "--to", "server_prod_2", "--deactivate-old-after", "24h"];
    let (ok, new_token, stderr) = run(serve.operator(&rotate).args(["--project", "6666"]));
    assert!(
        ok && stderr.contains("replaces projects/6666/keys/server_prod") && !stderr.contains(&new_token),
        "{stderr}"
    );
    for token in [&token, &new_token] {
        assert_eq!(client.verdict(token).await, Verdict::Valid);
    }
    let (ok, _, stderr) = run(&mut serve.operator(&["keys", "keep", "server_prod", "--project", "6666"]));
    assert!(ok && stderr.contains("has no scheduled deactivation"), "{stderr}");

    let (ok, out, stderr) = run(&mut serve.operator(&["keys", "create", "a-b", "--project", "6666"]));
    assert!(!ok && out.is_empty() && stderr.contains("1 to 64 letters, digits and underscores"), "{stderr}");
    let (ok, credential, _) = run(&mut serve.operator(&["members", "create", "edge", "--role", "validator"]));
    assert!(ok && credential.starts_with("kwm_"));
    let (ok, _, stderr) = run(&mut serve.operator(&["members", "create", "e", "--role", "editor"]));
    assert!(!ok && stderr.contains("need --project"), "{stderr}");
}

#[tokio::test]
async fn keys_lookup_reads_the_token_from_stdin() {
    let serve = Serve::start();
    let (_, token, _) = run(&mut serve.operator(&["projects", "create", "6666"]));
    let (_, credential, _) = run(&mut serve.operator(&["members", "create", "help", "--role", "support"]));
    let files = tempfile::tempdir().unwrap();
    let (credential_file, token_file) = (files.path().join("credential"), files.path().join("token"));
    write_secret(&credential_file, credential);
    std::fs::write(&token_file, &token).unwrap();
    let mut lookup = keyward_tests::keyward::command("keyward");
    lookup.args(["keys", "lookup", "--admin", &format!("http://{}", serve.admin), "--credential-file"]);
    lookup.arg(&credential_file).stdin(std::fs::File::open(&token_file).unwrap());
    let (ok, out, stderr) = run(&mut lookup);
    assert!(ok && out.starts_with("projects/6666/keys/6666_default_"), "{stderr}");
    assert!(stderr.contains("active, created by members/root") && !stderr.contains(&token), "{stderr}");
}

/// Runs the command with `--json` and returns its output.
fn json(command: &mut Command) -> Value {
    let (ok, out, stderr) = run(command.arg("--json"));
    assert!(ok, "{stderr}");
    assert!(!stderr.contains("next:"), "scripts want no hints: {stderr}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

#[tokio::test]
async fn every_command_prints_json_on_request() {
    let serve = Serve::start();
    let project = |arguments: &[&str]| {
        let mut command = serve.operator(arguments);
        command.args(["--project", "6666"]);
        command
    };
    let created = json(&mut serve.operator(&["projects", "create", "6666"]));
    assert_eq!(created["project"]["name"], "projects/6666");
    let default_key = created["defaultKey"]["name"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    assert_eq!(json(&mut serve.operator(&["projects", "list"]))[0]["name"], "projects/6666");
    assert_eq!(json(&mut serve.operator(&["projects", "get", "6666"]))["creator"], "members/root");

    let created = json(&mut project(&["keys", "create", "a", "--platform", "ios", "--expire-after", "90d"]));
    let token = created["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("kwc_") && created["key"]["expireTime"].is_string(), "{created}");
    let listed = json(&mut project(&["keys", "list", "--filter", "platform = ios"]));
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["state"]), (1, &Value::from("STATE_ACTIVE")));
    assert_eq!(json(&mut project(&["keys", "get", "a"]))["name"], "projects/6666/keys/a");
    assert_eq!(json(&mut project(&["keys", "reveal", "a"]))["token"], token.as_str());
    assert_eq!(json(&mut project(&["keys", "describe", "a", "x"]))["key"]["description"], "x");
    assert!(json(&mut project(&["keys", "expire", "a", "--never"]))["key"]["expireTime"].is_null());
    let rotated = json(&mut project(&["keys", "rotate", "a", "--to", "b", "--deactivate-old-after", "1h"]));
    assert!(rotated["oldKey"]["scheduledDeactivateTime"].is_string(), "{rotated}");
    assert!(json(&mut project(&["keys", "keep", "a"]))["key"]["scheduledDeactivateTime"].is_null());
    let deactivated = json(&mut project(&["keys", "deactivate", "a"]));
    assert_eq!(deactivated["receipt"]["enforcedBy"], "ENFORCED_BY_ACKS");
    assert_eq!(json(&mut project(&["keys", "activate", "a"]))["key"]["state"], "STATE_ACTIVE");

    let created = json(&mut serve.operator(&["members", "create", "help", "--role", "support"]));
    let credential = serve.data_dir().join("help.credential");
    write_secret(&credential, created["credential"].as_str().unwrap());
    let as_support = |arguments: &[&str]| {
        let mut command = keyward_tests::keyward::command("keyward");
        command.args(arguments).args(["--admin", &format!("http://{}", serve.admin)]);
        command.arg("--credential-file").arg(&credential);
        command
    };
    assert_eq!(json(&mut as_support(&["members", "whoami"]))["roles"][0]["role"], "ROLE_SUPPORT");
    let token_file = serve.data_dir().join("found");
    std::fs::write(&token_file, &token).unwrap();
    let found = json(as_support(&["keys", "lookup"]).arg("--token-file").arg(&token_file));
    assert_eq!(found["name"], "projects/6666/keys/a");
    let rotated =
        json(as_support(&["keys", "rotate-default", &default_key, "--grace", "1h"]).args(["--project", "6666"]));
    assert!(rotated["token"].is_null() && rotated["key"]["defaultKey"] == true, "{rotated}");

    let role = ["--role", "viewer", "--project", "6666"];
    let granted = json(serve.operator(&["members", "grant", "help"]).args(role));
    assert_eq!(granted["member"]["roles"].as_array().unwrap().len(), 2);
    assert_eq!(json(serve.operator(&["members", "revoke", "help"]).args(role))["member"]["name"], "members/help");
    let issued = json(&mut serve.operator(&["members", "issue-credential", "help"]));
    let name = issued["credentialName"].as_str().unwrap();
    assert_eq!(json(&mut serve.operator(&["members", "get", "help"]))["credentials"].as_array().unwrap().len(), 2);
    let revoked = json(&mut serve.operator(&["members", "revoke-credential", name]));
    assert_eq!(revoked["member"]["credentials"].as_array().unwrap().len(), 1);
    assert_eq!(json(&mut serve.operator(&["members", "list"])).as_array().unwrap().len(), 2);

    let events = json(serve.operator(&["audit", "list", "--limit", "3"]).args(["--filter", "type = KEY_CREATED"]));
    assert_eq!((events.as_array().unwrap().len(), &events[0]["type"]), (1, &Value::from("TYPE_KEY_CREATED")));
    assert_eq!(json(&mut serve.operator(&["audit", "verify"]))["intact"], true);
    assert_eq!(json(&mut serve.operator(&["sdks", "list"])).as_array().unwrap().len(), 6);
    assert_eq!(json(&mut serve.operator(&["sdks", "show", "http"]))["state"], "STATE_READY");
}

#[tokio::test]
async fn exit_codes_distinguish_the_kinds_of_errors() {
    let serve = Serve::start();
    run(&mut serve.operator(&["projects", "create", "6666"]));
    let code = |command: &mut Command| command.output().unwrap().status.code().unwrap();
    let invalid = serve.data_dir().join("invalid");
    write_secret(&invalid, "hunter2");
    for (arguments, expected) in [
        (&["keys", "list", "--project", "6666"][..], 0),
        (&["keys", "create", "a-b", "--project", "6666"], 2),
        (&["keys", "create"], 2),
        (&["keys", "get", "nonesuch", "--project", "6666"], 3),
        (&["keys", "list", "--project", "7777"], 3),
        (&["projects", "create", "6666"], 5),
        (&["sdks", "show", "android"], 1),
        (&["members", "create", "e", "--role", "editor"], 2),
    ] {
        assert_eq!(code(&mut serve.operator(arguments)), expected, "{arguments:?}");
    }
    assert_eq!(code(serve.operator(&["keys", "lookup"]).arg("--token-file").arg(&invalid)), 4, "root is not support");
    let mut whoami = keyward_tests::keyward::command("keyward");
    whoami.args(["members", "whoami", "--admin", &format!("http://{}", serve.admin), "--credential-file"]);
    assert_eq!(code(whoami.arg(&invalid)), 4);
    let mut gone = serve.operator(&["members", "whoami"]);
    let root = serve.root();
    drop(serve);
    std::fs::create_dir_all(invalid.parent().unwrap()).unwrap();
    write_secret(&invalid.parent().unwrap().join("root.credential"), root);
    assert_eq!(code(&mut gone), 6, "nothing listens there any more");
}

#[test]
fn completions_and_help_list_every_noun() {
    let output = keyward_tests::keyward::command("keyward").args(["completions", "bash"]).output().unwrap();
    let help = keyward_tests::keyward::command("keyward").arg("--help").output().unwrap();
    for text in [output.stdout, help.stdout] {
        let text = String::from_utf8(text).unwrap();
        for noun in ["projects", "keys", "members", "audit", "sdks"] {
            assert!(text.contains(noun), "no {noun}");
        }
    }
}

/// The columns of a table line up, whatever the width of its cells.
#[tokio::test]
async fn tables_are_aligned_and_the_next_step_is_printed() {
    let serve = Serve::start();
    let (_, _, stderr) = run(&mut serve.operator(&["projects", "create", "6666", "--display-name", "The shop"]));
    assert!(stderr.contains("next: keyward keys create server_prod --project 6666"), "{stderr}");
    let (_, list, _) = run(&mut serve.operator(&["projects", "list"]));
    let lines: Vec<_> = list.lines().collect();
    let column = |line: &str, text: &str| line.find(text).unwrap_or_else(|| panic!("no {text} in {line}"));
    assert_eq!(column(lines[0], "CREATOR"), column(lines[1], "members/root"));
    assert_eq!(column(lines[0], "DISPLAY NAME"), column(lines[1], "The shop"));
    let (_, member, _) = run(&mut serve.operator(&["members", "get", "root"]));
    assert!(member.contains("roles         owner") && member.contains("members/root/credentials/"), "{member}");
    let (_, audit, _) = run(&mut serve.operator(&["audit", "list"]));
    assert!(audit.lines().nth(1).unwrap().contains("project_created"), "{audit}");
}
