//! The connection to PostgreSQL: its password, its TLS, and its URL.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward_tests::keyward::{command, last_event, workspace, write_secret};
use keyward_tests::postgres::{PASSWORD, Postgres};
use keyward_tests::process::{Process, output_of};
use keyward_token::Keyring;

/// An address that is treated as beyond this machine, although a connection to it goes to loopback.
const BEYOND: &str = "0.0.0.0";

/// A server that declines TLS, requests the password in plaintext, and records what it receives.
struct Eavesdropper {
    port: u16,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Eavesdropper {
    fn start() -> Self {
        const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
        const CLEARTEXT_PASSWORD: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 3];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&sent);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut bytes = [0; 4_096];
                while let Ok(length @ 1..) = stream.read(&mut bytes) {
                    record.lock().unwrap().extend(&bytes[..length]);
                    let answer: &[u8] = if bytes[..length] == SSL_REQUEST { b"N" } else { &CLEARTEXT_PASSWORD };
                    if stream.write_all(answer).is_err() || record.lock().unwrap().ends_with(b"hunter2\0") {
                        break;
                    }
                }
            }
        });
        Self { port, sent }
    }

    fn sent(&self) -> Vec<u8> {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }
}

/// Runs a command that must end within 30 s. Returns its output.
fn ended(command: &mut Command) -> String {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    output_of(&child.wait_with_output().unwrap())
}

/// Returns `admin` and `init` commands with that URL, without PostgreSQL's environment variables.
fn commands(dir: &Path, url: &str) -> [Command; 2] {
    let mut admin = command("keyward");
    admin.args(["admin", "--database-url", url, "--keyring", "keyring"]);
    admin.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
    let mut init = command("keyward");
    init.args(["init", "--database-url", url, "--keyring", "keyring", "--root-credential", "root"]);
    for command in [&mut admin, &mut init] {
        command.current_dir(dir);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
    }
    [admin, init]
}

fn directory_with_keyring() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_secret(&dir.path().join("keyring"), &*Keyring::generate().unwrap().render());
    dir
}

#[test]
fn the_database_password_is_sent_beyond_this_machine_only_to_a_verified_server() {
    let (dir, server) = (directory_with_keyring(), Eavesdropper::start());
    let port = server.port;
    let at = format!("{BEYOND}:{port}");
    let exposed: [(String, &[(&str, &str)]); 13] = [
        (format!("postgres://u:hunter2@{at}/db"), &[]),
        (format!("postgresql://u:hunter2@{at}/db"), &[]),
        (format!("postgres://u:hunter2@{at}/db?sslmode=disable"), &[]),
        (format!("postgres://u:hunter2@{at}/db?sslmode=allow"), &[]),
        (format!("postgres://u:hunter2@{at}/db?sslmode=prefer"), &[]),
        (format!("postgres://u:hunter2@{at}/db?sslmode=require"), &[]),
        (format!("postgres://u:hunter2@{at}/db?ssl-mode=verify-ca"), &[]),
        (format!("postgres://u:hunter2@{at}/db?sslmode=verify-full&sslmode=prefer"), &[]),
        (format!("postgres://u:hunter2@localhost:{port}/db?host={BEYOND}"), &[]),
        (format!("postgres://u:hunter2@localhost:{port}/db?hostaddr={BEYOND}"), &[]),
        ("postgres:///db".to_owned(), &[("PGHOST", BEYOND), ("PGUSER", "u"), ("PGPASSWORD", "hunter2")]),
        ("postgres:///db?user=u&password=hunter2".to_owned(), &[("PGHOSTADDR", BEYOND), ("PGSSLMODE", "require")]),
        (format!("postgres://u:hunter2@{at}/db"), &[("PGSSLMODE", "verify-ca")]),
    ];
    for (url, environment) in exposed {
        for mut command in commands(dir.path(), &url) {
            command.env("PGPORT", port.to_string()).envs(environment.iter().copied());
            let text = ended(&mut command);
            assert!(text.contains("sslmode=verify-full") && text.contains("--insecure-plaintext"), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{url}: {text}");
            assert_eq!(server.sent(), b"", "{url}, {environment:?}: something was sent");
        }
    }
    // With verification, only the request for TLS is sent to a server that declines it.
    let verified: [(String, &[(&str, &str)]); 3] = [
        (format!("postgres://u:hunter2@{at}/db?sslmode=verify-full"), &[]),
        (format!("postgres://u:hunter2@{at}/db"), &[("PGSSLMODE", "verify-full")]),
        ("postgres:///db?user=u&password=hunter2".to_owned(), &[("PGHOST", BEYOND), ("PGSSLMODE", "verify-full")]),
    ];
    for (url, environment) in verified {
        for mut command in commands(dir.path(), &url) {
            command.env("PGPORT", port.to_string()).envs(environment.iter().copied());
            let text = ended(&mut command);
            assert!(text.contains("does not support TLS"), "{url}: {text}");
            let sent = server.sent();
            assert!(!sent.is_empty() && !sent.windows(7).any(|w| w == b"hunter2"), "{url}: {sent:?}");
        }
    }
    // The password is sent to this machine, and to any other one if that is requested explicitly.
    let [mut admin, mut init] = commands(dir.path(), &format!("postgres://u:hunter2@127.0.0.1:{port}/db"));
    for command in [&mut admin, &mut init] {
        ended(command);
        assert!(server.sent().windows(7).any(|w| w == b"hunter2"), "to this machine");
    }
    for mut command in commands(dir.path(), &format!("postgres://u:hunter2@{at}/db")) {
        ended(command.arg("--insecure-plaintext"));
        assert!(server.sent().windows(7).any(|w| w == b"hunter2"), "with --insecure-plaintext");
    }
}

#[test]
fn an_unknown_parameter_of_a_database_url_is_refused_without_showing_its_value() {
    let dir = directory_with_keyring();
    for parameter in ["pasword=hunter2", "ssl_mode=verify-full&x=hunter2", "passfile=hunter2", "hunter2"] {
        for mut command in commands(dir.path(), &format!("postgres://u:pw@127.0.0.1:1/db?{parameter}")) {
            let text = ended(&mut command);
            assert!(text.contains("unknown parameter") && !text.contains("hunter2"), "{parameter}: {text}");
        }
    }
}

/// Writes the certificate and key of the server. The certificate is issued by `tests/it/tls/ca.pem` for `localhost` and
/// 0.0.0.0. The CA's key was deleted.
fn certificates(dir: &Path) -> [PathBuf; 2] {
    const NOBODY: u32 = 65534;
    let user = rustix::process::geteuid().is_root().then_some(NOBODY);
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    ["server.pem", "server.key"].map(|name| {
        let path = dir.join(name);
        write_secret(&path, fs::read(workspace().join("tests/it/tls").join(name)).unwrap());
        chown(&path, user, user).unwrap();
        path
    })
}

#[test]
fn a_postgresql_server_is_verified_with_a_custom_ca() {
    let files = tempfile::tempdir().unwrap();
    let [certificate, key] = certificates(files.path()).map(|path| path.display().to_string());
    let secure =
        Postgres::start_with(&[("ssl", "on"), ("ssl_cert_file", &certificate), ("ssl_key_file", &key)]).unwrap();
    let plain = Postgres::start().unwrap();
    let tls = workspace().join("tests/it/tls");
    let (ca, other) = (tls.join("ca.pem").display().to_string(), tls.join("other-ca.pem").display().to_string());
    let dir = directory_with_keyring();
    let (url, plain_url) = (secure.database("keyward").unwrap(), plain.database("keyward").unwrap());
    let at = |url: &str, host: &str, query: &str| format!("{}?{query}", url.replace("127.0.0.1", host));
    let verified = format!("sslmode=verify-full&sslrootcert={ca}");
    // A wrong CA, the default CAs, a host that the certificate does not name, a missing file, and a server without TLS.
    for (url, why) in [
        (at(&url, BEYOND, &format!("sslmode=verify-full&sslrootcert={other}")), "UnknownIssuer"),
        (at(&url, BEYOND, "sslmode=verify-full"), "UnknownIssuer"),
        (at(&url, "127.0.0.1", &verified), "not valid for name"),
        (at(&plain_url, BEYOND, &verified), "does not support TLS"),
        (at(&url, BEYOND, "sslmode=verify-full&sslrootcert=missing.pem"), "No such file"),
    ] {
        for mut command in commands(dir.path(), &url) {
            let text = ended(&mut command);
            assert!(text.contains(why) && !text.contains(PASSWORD), "{url}: {text}");
        }
    }
    for host in [BEYOND, "localhost"] {
        let [_, mut init] = commands(dir.path(), &at(&url, host, &verified));
        let text = ended(&mut init);
        assert!(text.contains("set up"), "{host}: {text}");
    }
    let [mut admin, _] = commands(dir.path(), &at(&url, BEYOND, "sslmode=verify-full"));
    admin.env("PGSSLROOTCERT", &ca).args(["--log-format", "json"]);
    let mut process = Process::start(&mut admin, &dir.path().join("admin.log"));
    process.wait_for("readiness", |p| last_event(&p.log(), "ready"));
    let sql = "SELECT bool_and(ssl), count(*) > 0 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname = 'keyward'";
    assert_eq!(secure.psql(&secure.url(), sql).unwrap(), "t|t", "every connection is encrypted");
    process.terminate();
}

#[test]
fn a_url_that_names_several_servers_is_refused_with_the_alternative() {
    let dir = directory_with_keyring();
    for (url, variable) in [
        ("postgres://u:hunter2@h1,h2/db?target_session_attrs=read-write", None),
        ("postgres://u:hunter2@localhost:5432,localhost:5433/db", None),
        ("postgres://u:hunter2@localhost/db?target_session_attrs=read-write", None),
        ("postgres://u:hunter2@/db?host=/a,/b", None),
        ("postgres://u:hunter2@%2Fa%2C%2Fb/db", None),
        ("postgres:///db?user=u&password=hunter2", Some(("PGHOST", "localhost,127.0.0.1"))),
        ("postgres:///db?user=u&password=hunter2", Some(("PGHOST", "/a,/b"))),
        ("postgres://u:hunter2@localhost/db", Some(("PGPORT", "5432,5433"))),
    ] {
        for mut command in commands(dir.path(), url) {
            command.args(["--insecure-plaintext"]).envs(variable);
            let text = ended(&mut command);
            assert!(text.contains("virtual IP address") && text.contains("docs/database.md"), "{url}: {text}");
            assert!(!text.contains("hunter2") && !text.contains("port number"), "{url}: {text}");
        }
    }
}

#[test]
fn a_url_with_a_user_and_a_socket_directory_is_read_as_libpq_reads_it() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Postgres::start().unwrap());
    let url = server.database("keyward").unwrap();
    let (user, rest) = url.split_once("://").unwrap().1.split_once('@').unwrap();
    let port = rest.split_once(':').unwrap().1.split_once('/').unwrap().0;
    let url = format!("postgres://{user}@/keyward?host={}&port={port}", server.socket_directory().display());
    // psql of the same server reads it.
    assert_eq!(server.psql(&url, "SELECT 1").unwrap(), "1");
    let [_, mut init] = commands(dir.path(), &url);
    assert!(ended(&mut init).contains("The database is set up."));
}
