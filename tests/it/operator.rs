//! The operator's commands.

use std::process::Command;

use keyward_proto::validate::Verdict;
use keyward_tests::client::Asker;
use keyward_tests::keyward::Serve;

/// Runs a command: whether it ended well, its stdout, its stderr.
fn run(command: &mut Command) -> (bool, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn commands_print_what_is_wanted_alone_on_stdout() {
    let serve = Serve::start();
    let asker = Asker::connect(serve.validator).await;
    let (ok, default_token, _) = run(&mut serve.operator(&["projects", "create", "6666"]));
    assert!(ok);
    assert_eq!(asker.verdict(&default_token).await, Verdict::Valid);
    let create = ["keys", "create", "server_prod", "--project", "6666", "--description", "the shop"];
    let (ok, token, told) = run(&mut serve.operator(&create));
    assert!(ok && told.contains("projects/6666/keys/server_prod") && !told.contains(&token), "{told}");
    assert_eq!(asker.verdict(&token).await, Verdict::Valid);

    let (ok, list, _) = run(&mut serve.operator(&["keys", "list", "--project", "6666"]));
    assert!(ok && list.contains("server_prod") && list.contains("the shop") && !list.contains(&token), "{list}");

    let (ok, out, told) = run(&mut serve.operator(&["keys", "deactivate", "server_prod", "--project", "6666"]));
    assert!(ok && out.is_empty() && told.contains("deactivated projects/6666/keys/server_prod"), "{told}");
    assert_eq!(asker.verdict(&token).await, Verdict::Deactivated);

    let (ok, out, told) = run(&mut serve.operator(&["keys", "activate", "server_prod", "--project", "6666"]));
    assert!(ok && out.is_empty() && told.contains("is active"), "{told}");
    let (ok, out, _) = run(&mut serve.operator(&["keys", "reveal", "server_prod", "--project", "6666"]));
    assert!(ok && out == token);
    assert_eq!(asker.verdict(&token).await, Verdict::Valid);
    let describe = ["keys", "describe", "server_prod", "the other shop", "--project", "6666"];
    assert!(run(&mut serve.operator(&describe)).0);
    let (_, list, _) = run(&mut serve.operator(&["keys", "list", "--project", "6666"]));
    assert!(list.contains("the other shop") && !list.contains("the shop"), "{list}");

    let rotate = ["keys", "rotate", "server_prod", "--to", "server_prod_2", "--deactivate-old-after", "24h"];
    let (ok, new_token, told) = run(serve.operator(&rotate).args(["--project", "6666"]));
    assert!(ok && told.contains("replaces projects/6666/keys/server_prod") && !told.contains(&new_token), "{told}");
    for token in [&token, &new_token] {
        assert_eq!(asker.verdict(token).await, Verdict::Valid);
    }
    let (ok, _, told) = run(&mut serve.operator(&["keys", "keep", "server_prod", "--project", "6666"]));
    assert!(ok && told.contains("is not deactivated by itself"), "{told}");

    let (ok, out, told) = run(&mut serve.operator(&["keys", "create", "a-b", "--project", "6666"]));
    assert!(!ok && out.is_empty() && told.contains("1 to 64 letters, digits and underscores"), "{told}");
    let (ok, credential, _) = run(&mut serve.operator(&["members", "create", "edge", "--role", "validator"]));
    assert!(ok && credential.starts_with("kwm_"));
    let (ok, _, told) = run(&mut serve.operator(&["members", "create", "e", "--role", "editor"]));
    assert!(!ok && told.contains("need --project"), "{told}");
}

#[tokio::test]
async fn a_found_token_is_looked_up_from_stdin() {
    let serve = Serve::start();
    let (_, token, _) = run(&mut serve.operator(&["projects", "create", "6666"]));
    let (_, credential, _) = run(&mut serve.operator(&["members", "create", "help", "--role", "support"]));
    let files = tempfile::tempdir().unwrap();
    let (credential_file, token_file) = (files.path().join("credential"), files.path().join("token"));
    std::fs::write(&credential_file, credential).unwrap();
    std::fs::write(&token_file, &token).unwrap();
    let mut lookup = keyward_tests::keyward::command("keyward");
    lookup.args(["keys", "lookup", "--admin", &format!("http://{}", serve.admin), "--credential-file"]);
    lookup.arg(&credential_file).stdin(std::fs::File::open(&token_file).unwrap());
    let (ok, out, told) = run(&mut lookup);
    assert!(ok && out.starts_with("projects/6666/keys/6666_default_"), "{told}");
    assert!(told.contains("active, created by members/root") && !told.contains(&token), "{told}");
}
