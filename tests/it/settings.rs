//! Settings from the environment.

use std::net::TcpListener;
use std::process::Command;

use keyward_tests::keyward::{Serve, command, workspace};
use keyward_tests::process::output_of;

/// Every `KEYWARD_*` variable of docs/settings.md, which a unit test compares with the option types.
fn variables() -> Vec<String> {
    let page = std::fs::read_to_string(workspace().join("docs/settings.md")).unwrap();
    let words = page.split('`').filter(|word| word.starts_with("KEYWARD_") && !word.contains('*'));
    words.map(str::to_owned).collect()
}

#[test]
fn an_empty_variable_is_an_absent_one_for_every_setting() {
    let variables = variables();
    assert!(variables.len() > 30, "{variables:?}");
    // Each command refuses to start, and lists what it lacks or what is wrong.
    let refused: [&[&str]; 6] = [
        &["serve", "--lease", "999s"],
        &["admin"],
        &["validator"],
        &["init", "--keyring", "k", "--root-credential", "r"],
        &["members", "whoami"],
        &["keys", "list"],
    ];
    let dir = tempfile::tempdir().unwrap();
    for arguments in refused {
        let run = |empty: bool| {
            let mut keyward = command("keyward");
            keyward.args(arguments).current_dir(dir.path());
            keyward.envs(variables.iter().filter(|_| empty).map(|name| (name, "")));
            let output = keyward.output().unwrap();
            assert!(!output.status.success(), "{arguments:?}");
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        assert_eq!(run(true), run(false), "{arguments:?}");
    }
}

fn whoami(serve: &Serve, admins: &str) -> Command {
    let mut whoami = command("keyward");
    whoami.args(["members", "whoami"]).env("KEYWARD_ADMIN", admins);
    whoami.env("KEYWARD_CREDENTIAL_FILE", serve.credential_file());
    whoami
}

#[test]
fn the_operators_commands_use_the_next_admin_of_a_list_if_one_is_down_or_hangs() {
    let serve = Serve::start();
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (hangs, up) = (hangs.local_addr().map(|at| (at, hangs)).unwrap(), serve.admin);
    for admins in [
        format!("http://{up}"),
        format!("http://{closed},http://{up}"),
        format!("http://{up}, http://{closed},"),
        format!("http://{},http://{closed},http://{up}", hangs.0),
    ] {
        let output = whoami(&serve, &admins).output().unwrap();
        assert!(output.status.success(), "{admins}: {}", output_of(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("root"), "{admins}: {}", output_of(&output));
    }
    let output = whoami(&serve, &format!("http://{closed},http://127.0.0.1:1")).output().unwrap();
    let text = output_of(&output);
    assert_eq!(output.status.code(), Some(6), "{text}");
    assert!(text.contains(&closed.to_string()) && text.contains("127.0.0.1:1"), "{text}");
    let output = whoami(&serve, &format!("http://{up},ftp://{closed}")).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(2),
        "a wrong address is refused before any is called: {}",
        output_of(&output)
    );
}
