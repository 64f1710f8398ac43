//! Every command of the README and of docs/ runs as pasted, and prints what the page shows.

use std::path::{Path, PathBuf};
use std::process::Command;

use keyward_tests::client::Admin;
use keyward_tests::cluster::Cluster;
use keyward_tests::gateway::{self, Kind as Gateway, ValidatorAt};
use keyward_tests::keyward::{Serve, workspace};
use keyward_tests::process::Process;
use keyward_tests::upstream::Upstream;
use keyward_tests::{keyward, parts, postgres};

/// A fenced block: its info string, and its text without indentation.
struct Block {
    kind: String,
    text: String,
}

fn pages() -> Vec<PathBuf> {
    let directories = [workspace().join("docs"), workspace().join("docs/gateways")];
    let files = directories.iter().flat_map(|directory| std::fs::read_dir(directory).unwrap());
    let paths = files.map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.push(workspace().join("README.md"));
    pages.sort();
    pages
}

fn blocks(page: &PathBuf) -> Vec<Block> {
    let text = std::fs::read_to_string(page).unwrap();
    let (mut blocks, mut open): (Vec<Block>, Option<(usize, Block)>) = (Vec::new(), None);
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match (line.trim().strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some((indent, Block { kind: kind.to_owned(), text: String::new() })),
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(_, block)| block)),
            (None, Some((indent, block))) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// Servers run in the background, as in another terminal. They end with the shell.
const SHELL: &str = r#"
trap 'kill $(jobs -p) 2>/dev/null || true; wait || true' EXIT
start() {
  echo "$@" >> started
  command keyward "$@" > "log.$2" 2>&1 &
  for _ in $(seq 600); do
    if grep -q '"message":"ready"\|"message":"the validator is ready"' "log.$2"; then return 0; fi
    if ! kill -0 $! 2>/dev/null; then cat "log.$2"; return 1; fi
    sleep 0.1
  done
  cat "log.$2"; return 1
}
keyward() {
  case "$1" in
    admin) KEYWARD_LISTEN="$ADMIN_LISTEN" start "$@" ;;
    serve)
      export KEYWARD_VALIDATOR_LISTEN=127.0.0.1:0 KEYWARD_HOOK_LISTEN=127.0.0.1:0
      export KEYWARD_ADMIN_OPS_LISTEN=127.0.0.1:0 KEYWARD_VALIDATOR_OPS_LISTEN=127.0.0.1:0
      KEYWARD_ADMIN_LISTEN="$RESTORED_LISTEN" start "$@" ;;
    validator) KEYWARD_LISTEN=127.0.0.1:0 KEYWARD_HOOK_LISTEN=127.0.0.1:0 start "$@" ;;
    *) command keyward "$@" ;;
  esac
}
default_key() {
  command keyward keys list --project 6666 --filter 'default_key = true' | sed -n 's/^\(6666_default_[0-9]*\) .*/\1/p'
}
"#;

/// Runs a script with the admin's address and credential in its environment. Returns its stdout.
fn paste(script: &str, admin: &str, credential: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let bin = PathBuf::from(keyward::command("keyward").get_program()).parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &format!("{SHELL}{script}")]).current_dir(dir.path()).env("PATH", path);
    bash.env("KEYWARD_ADMIN", format!("http://{admin}")).env("KEYWARD_CREDENTIAL_FILE", credential);
    bash.env("KEYWARD_OPS_LISTEN", "127.0.0.1:0").env("KEYWARD_LOG_FORMAT", "json").env("ADMIN_LISTEN", admin);
    let output = bash.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}\n{stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout
}

/// Checks that `output` contains these lines in order. `…` matches any text.
fn check(page: &Path, printed: &[&str], output: &str) {
    let mut lines = output.lines();
    for wanted in printed {
        let fits = |line: &str| {
            let mut rest = line;
            wanted.split('…').all(|piece| match rest.find(piece) {
                Some(at) => {
                    rest = &rest[at + piece.len()..];
                    true
                }
                None => false,
            })
        };
        assert!(lines.any(fits), "{}: no line like\n{wanted}\nin\n{output}", page.display());
    }
}

#[test]
fn every_command_of_the_docs_runs_as_pasted() {
    let mut run = 0;
    for page in pages() {
        let blocks = blocks(&page);
        let (mut script, mut printed) = (String::new(), Vec::new());
        for block in &blocks {
            match block.kind.as_str() {
                "sh serve" => script.push_str(&block.text),
                "text output" => printed.extend(block.text.lines()),
                _ => {}
            }
        }
        if script.is_empty() {
            continue;
        }
        let serve = Serve::start();
        let script =
            script.replace("6666_default_193444", "$(default_key)").replace("127.0.0.1:8510", &serve.admin.to_string());
        check(&page, &printed, &paste(&script, &serve.admin.to_string(), &serve.credential_file()));
        run += 1;
    }
    assert_eq!(run, 3, "the README, rotation, members");
}

#[test]
fn the_commands_for_several_machines_run_as_pasted() {
    let page = workspace().join("README.md");
    let script: String = blocks(&page).into_iter().filter(|b| b.kind == "sh cluster").map(|b| b.text).collect();
    let server = postgres::Postgres::start().unwrap();
    let url = server.database("keyward").unwrap();
    let admin = format!("127.0.0.1:{}", postgres::free_port().unwrap());
    let mut real = script;
    for (documented, real_one) in
        [("postgres://keyward:…@db/keyward", url.as_str()), ("10.0.0.1:8510", &admin), ("10.0.0.2:8510", &admin)]
    {
        assert!(real.contains(documented), "the page does not mention {documented}");
        real = real.replace(documented, real_one);
    }
    // The script ran to its end.
    let output = paste(&format!("{real}\ncat started\n"), &admin, Path::new("root.credential"));
    assert!(output.contains("The database is set up.") && output.contains("validator --admin"), "{output}");
}

#[test]
fn the_commands_of_the_backup_page_run_as_pasted() {
    let page = workspace().join("docs/backup.md");
    let (mut script, mut printed) = (String::new(), Vec::new());
    let blocks = blocks(&page);
    for block in &blocks {
        match block.kind.as_str() {
            "sh backup" => script.push_str(&block.text),
            "text output" => printed.extend(block.text.lines()),
            _ => {}
        }
    }
    let serve = Serve::start();
    let data = serve.data_dir().display().to_string();
    assert!(script.contains("--data-dir keyward-data"));
    let script = script.replace("--data-dir keyward-data", &format!("--data-dir {data}"));
    let at = format!("127.0.0.1:{}", postgres::free_port().unwrap());
    let script = format!("RESTORED_LISTEN={at} RESTORED=http://{at}\n{script}");
    check(&page, &printed, &paste(&script, &serve.admin.to_string(), &serve.credential_file()));
}

#[test]
fn the_commands_for_backups_of_postgresql_run_as_pasted() {
    let page = workspace().join("docs/backup.md");
    let script: String = blocks(&page).into_iter().filter(|b| b.kind == "sh postgres").map(|b| b.text).collect();
    let cluster = Cluster::start_on(&[("wal_level", "replica"), ("max_wal_senders", "4")], &[]);
    let restored = format!("{}restored", cluster.url.strip_suffix("keyward").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut bash = cluster.postgres.client("bash");
    cluster.postgres.as_its_user(&mut bash, dir.path());
    bash.args(["-euo", "pipefail", "-c", &script]).current_dir(dir.path()).env("DATABASE_URL", &cluster.url);
    let output = bash.env("RESTORED_URL", &restored).env("REPLICATION_URL", &cluster.url).output().unwrap();
    assert!(output.status.success(), "{}", keyward_tests::process::output_of(&output));
    // An admin with the keyring runs on the restored database.
    let admin = cluster.admin_through("restored", &restored);
    let mut verify = keyward::command("keyward");
    verify.args(["audit", "verify", "--admin", &format!("http://{}", admin.at)]);
    let verified = verify.arg("--credential-file").arg(cluster.credential_file()).output().unwrap();
    assert!(verified.status.success(), "{}", keyward_tests::process::output_of(&verified));
}

/// Returns the page of a gateway.
const fn page_of(kind: Gateway) -> &'static str {
    match kind {
        Gateway::Envoy | Gateway::EnvoyHttp => "docs/gateways/envoy.md",
        Gateway::Nginx => "docs/gateways/nginx.md",
        Gateway::Caddy => "docs/gateways/caddy.md",
        Gateway::Haproxy => "docs/gateways/haproxy.md",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gateways_page_shows_the_real_output_of_its_requests() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let upstream = Upstream::start().await;
    for kind in Gateway::ALL {
        let page = workspace().join(page_of(kind));
        let blocks = blocks(&page);
        let of_kind =
            |kind: &str| blocks.iter().filter(|b| b.kind == kind).map(|b| b.text.as_str()).collect::<String>();
        let (script, printed) = (of_kind("sh gateway"), of_kind("text output"));
        assert!(!script.is_empty() && !printed.is_empty(), "{}", page.display());
        let gateway = gateway::Gateway::start(kind, &[ValidatorAt::in_serve(&serve)], upstream.at);
        let script = script.replace("127.0.0.1:8080", &gateway.at.to_string());
        let script = format!("TOKEN=$(cat token)\n{script}");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), &token).unwrap();
        let mut bash = tokio::process::Command::new("bash");
        let output = bash.args(["-euo", "pipefail", "-c", &script]).current_dir(dir.path()).output().await.unwrap();
        assert!(output.status.success(), "{}: {}", page.display(), String::from_utf8_lossy(&output.stderr));
        check(&page, &printed.lines().collect::<Vec<_>>(), &String::from_utf8_lossy(&output.stdout));
    }
}

/// Starts an example of a Rust service. Returns its process and its address.
fn example(name: &str, arguments: &[&str], dir: &Path) -> (Process, String) {
    let log = dir.join(format!("{name}.log"));
    let mut process = Process::start(keyward::example(name).args(arguments).arg("127.0.0.1:0"), &log);
    let at = process.wait_for("an address", |p| Some(p.out().strip_prefix("listening on http://")?.trim().to_owned()));
    (process, at)
}

#[test]
fn the_rust_examples_print_what_their_page_shows() {
    let page = workspace().join("docs/services.md");
    let (serve, dir) = (Serve::start(), tempfile::tempdir().unwrap());
    let made = serve.operator(&["members", "create", "another_service", "--role", "validator"]).output().unwrap();
    let credential = dir.path().join("credential");
    keyward::write_secret(&credential, made.stdout);
    let (validator, admin) = (format!("http://{}", serve.validator), format!("http://{}", serve.admin));
    // The example with a replica is ready when it listens, so all three can be used at once.
    let examples = [
        ("127.0.0.1:8090", example("http_service", &[&validator], dir.path())),
        ("127.0.0.1:8091", example("grpc_service", &[&validator], dir.path())),
        ("127.0.0.1:8092", example("embedded_replica", &[&credential.display().to_string(), &admin], dir.path())),
    ];
    let (mut script, mut printed) = (String::new(), Vec::new());
    let blocks = blocks(&page);
    for block in &blocks {
        match block.kind.as_str() {
            "sh service" => script.push_str(&block.text),
            "text output" => printed.extend(block.text.lines()),
            _ => {}
        }
    }
    for (documented, (_, real)) in &examples {
        assert!(script.contains(documented), "the page does not use {documented}");
        script = script.replace(documented, real);
    }
    let grpcurl = parts::grpcurl();
    let script = format!("grpcurl() {{ {} \"$@\"; }}\n{script}", grpcurl.display());
    check(&page, &printed, &paste(&script, &serve.admin.to_string(), &serve.credential_file()));
}

/// A block of an unknown kind would never be run.
#[test]
fn every_command_block_has_a_kind_that_these_tests_run() {
    for page in pages() {
        for block in blocks(&page) {
            let readme = page.ends_with("README.md");
            match block.kind.as_str() {
                "sh serve" => {}
                "sh service" if page.ends_with("docs/services.md") => {}
                "sh gateway" if Gateway::ALL.iter().any(|kind| page.ends_with(page_of(*kind))) => {}
                "sh walk" | "sh cluster" if readme => {}
                "sh backup" | "sh postgres" if page.ends_with("docs/backup.md") => {}
                "sh" if readme => assert!(["cargo run\n", "cargo test --workspace\n"].contains(&block.text.as_str())),
                kind => {
                    assert!(!kind.starts_with("sh"), "{}: a block that nothing runs:\n{}", page.display(), block.text);
                }
            }
        }
    }
}
