//! Permissions of files and sockets: which other users of the machine can read, replace or reach them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyward_tests::keyward::{Serve, command, last_event, write_secret};
use keyward_tests::process::{Process, output_of};
use keyward_token::{Keyring, Token, TokenFormat, TokenKind};

/// The uid of Debian's unprivileged user.
const NOBODY: u32 = 65534;
/// A uid without a user name.
const ANOTHER: u32 = 12_345;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn credential() -> String {
    Token::generate(&TokenFormat::default(), TokenKind::Member).unwrap().expose().to_owned()
}

/// Runs a command that must end within 10 s. Returns `true` if it succeeded, and its output.
fn run(command: &mut Command) -> (bool, String) {
    run_until(command, |_| false)
}

/// Runs a command until it ends by itself or `enough` accepts what it printed to stderr so far, at most for 10 s.
fn run_until(command: &mut Command, enough: impl Fn(&str) -> bool) -> (bool, String) {
    let errors = tempfile::NamedTempFile::new().unwrap();
    let stderr = errors.reopen().unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
    let begun = Instant::now();
    let printed = || String::from_utf8_lossy(&fs::read(errors.path()).unwrap()).into_owned();
    while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(10) && !enough(&printed()) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let hung = child.try_wait().unwrap().is_none();
    if hung {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = output_of(&output) + &printed();
    (output.status.success(), if hung { format!("hung: {text}") } else { text })
}

/// Returns the command wrapped in a shell with that umask.
fn under_umask(umask: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("umask {umask}; exec \"$0\" \"$@\"")).arg(command.get_program());
    shell.args(command.get_args());
    shell
}

#[test]
fn every_file_of_a_data_directory_is_accessible_to_its_owner_only_under_any_umask() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut serve = command("keyward");
    serve.arg("serve").arg("--data-dir").arg(&data).args(["--log-format", "json"]);
    for listener in
        ["--admin-listen", "--validator-listen", "--hook-listen", "--admin-ops-listen", "--validator-ops-listen"]
    {
        serve.args([listener, "127.0.0.1:0"]);
    }
    let modes = || -> Vec<(String, u32)> {
        let files = fs::read_dir(&data).unwrap().map(|file| file.unwrap());
        files.map(|file| (file.file_name().into_string().unwrap(), mode(&file.path()))).collect()
    };
    for life in ["made", "tightened"] {
        let log = dir.path().join(format!("{life}.log"));
        let mut process = Process::start(&mut under_umask("000", &serve), &log);
        process.wait_for("readiness", |p| last_event(&p.log(), "ready"));
        let found = modes();
        for name in ["keyward.db", "keyward.db-wal", "keyward.db-shm", "keyward.lock", "serve.lock", "keyring"] {
            assert!(found.iter().any(|(file, _)| file == name), "{life}: no {name} in {found:?}");
        }
        for (name, mode) in &found {
            assert_eq!(mode & 0o077, 0, "{life}: {name} has mode {mode:o}");
        }
        if life == "tightened" {
            for name in ["keyward.db", "serve.lock", "keyward.lock", "keyward.db-wal"] {
                let line = format!("{name} had mode 0644");
                assert!(process.log().contains(&line), "no line {line:?} in:\n{}", process.log());
            }
        }
        // The state after a crash, with all files, and with the modes of an earlier version.
        process.kill();
        for name in ["keyward.db", "keyward.db-wal", "keyward.db-shm", "keyward.lock", "serve.lock"] {
            set_mode(&data.join(name), 0o644);
        }
    }
}

#[test]
fn a_world_writable_data_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    for open in [0o777, 0o1777, 0o702] {
        set_mode(&data, open);
        let mut serve = command("keyward");
        serve.arg("serve").arg("--data-dir").arg(&data);
        let (_, text) = run(&mut serve);
        let rule = format!("{} has mode {open:04o}", data.display());
        assert!(text.contains(&rule) && text.contains(&format!("chmod 700 {}", data.display())), "{open:o}: {text}");
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "a refused start leaves nothing behind");
    }
    // Container platforms mount volumes that a group can write.
    let serve = Serve::start_on(|data| set_mode(data, 0o2775));
    assert!(serve.process.log().contains("its group can replace the files"), "{}", serve.process.log());
}

#[test]
fn a_database_that_is_not_a_regular_file_is_refused_at_once() {
    let dir = directory_with_keyring();
    assert!(Command::new("mkfifo").arg(dir.path().join("fifo.db")).status().unwrap().success());
    let mut admin = command("keyward");
    admin.args(["admin", "--database-url", "sqlite:fifo.db", "--keyring", "keyring"]).current_dir(dir.path());
    let (ok, text) = run(&mut admin);
    assert!(!ok && text.contains("fifo.db: the database must be a regular file"), "{text}");
}

fn directory_with_keyring() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_secret(&dir.path().join("keyring"), &*Keyring::generate().unwrap().render());
    dir
}

/// A file of each kind of secret, and a command that reads it at its start. Most of the commands end then.
struct Reader {
    what: &'static str,
    file: PathBuf,
    command: Box<dyn Fn() -> Command>,
    /// The text in the command's output that shows that the file was read.
    read: &'static str,
}

/// Creates a file of some type at a path.
type Make = fn(&Path);

fn readers(dir: &Path) -> Vec<Reader> {
    let file = |name: &str, content: &str| {
        let path = dir.join(name);
        write_secret(&path, content);
        path
    };
    let unreachable = "postgres://keyward:pw@127.0.0.1:1/keyward";
    let keyring = file("keyring", &Keyring::generate().unwrap().render());
    let spare_keyring = file("spare.keyring", &Keyring::generate().unwrap().render());
    let (member, peer, root) = (credential(), credential(), credential());
    let (member, peer, root) = (file("member", &member), file("peer", &peer), file("root", &root));
    let url = file("url", unreachable);
    let token = file("token", "kw_x");
    let config = file("config.toml", &format!("keyring = \"{}\"\n", spare_keyring.display()));
    let secret_config =
        file("secret.toml", &format!("keyring = \"{}\"\ndatabase_url = \"sqlite:x\"\n", spare_keyring.display()));
    let here = dir.to_owned();
    let admin = move |arguments: &[(&str, &Path)], more: &[&str]| {
        let mut command = command("keyward");
        command.arg("admin").current_dir(&here).args(more);
        for (flag, value) in arguments {
            command.arg(flag).arg(value);
        }
        command
    };
    let init = |arguments: &[(&str, &Path)]| {
        let mut command = command("keyward");
        command.arg("init");
        for (flag, value) in arguments {
            command.arg(flag).arg(value);
        }
        command
    };
    let cli = |arguments: &[&str], files: &[(&str, &Path)]| {
        let mut command = command("keyward");
        command.args(arguments).args(["--admin", "http://127.0.0.1:1"]);
        for (flag, value) in files {
            command.arg(flag).arg(value);
        }
        command
    };
    const EMPTY: &str = "the database is empty";
    let sqlite = ["--database-url", "sqlite:empty.db"];
    let mut readers = Vec::new();
    let mut add = |what, file: &Path, read, command: Box<dyn Fn() -> Command>| {
        readers.push(Reader { what, file: file.to_owned(), command, read });
    };
    let (a, k) = (admin.clone(), keyring.clone());
    add("keyring", &keyring, EMPTY, Box::new(move || a(&[("--keyring", &k)], &sqlite)));
    let (r, u, k) = (root.clone(), url.clone(), keyring.clone());
    add(
        "keyring of init",
        &keyring,
        "cannot open the database",
        Box::new(move || init(&[("--keyring", &k), ("--root-credential", &r), ("--database-url-file", &u)])),
    );
    let (a, u, k) = (admin.clone(), url.clone(), spare_keyring.clone());
    add(
        "database URL",
        &url,
        "cannot open the database",
        Box::new(move || a(&[("--keyring", &k), ("--database-url-file", &u)], &[])),
    );
    let (r, u, k) = (root, url.clone(), spare_keyring.clone());
    add(
        "database URL of init",
        &url,
        "cannot open the database",
        Box::new(move || init(&[("--keyring", &k), ("--root-credential", &r), ("--database-url-file", &u)])),
    );
    let (a, p, k) = (admin.clone(), peer.clone(), spare_keyring);
    add(
        "peer credential",
        &peer,
        EMPTY,
        Box::new(move || {
            let more = [&sqlite[..], &["--advertise", "http://127.0.0.1:1"]].concat();
            a(&[("--keyring", &k), ("--peer-credential-file", &p)], &more)
        }),
    );
    let m = member.clone();
    add(
        "credential of an operator",
        &member,
        "cannot reach the admin",
        Box::new(move || cli(&["projects", "list"], &[("--credential-file", &m)])),
    );
    let c = config.clone();
    let a = admin.clone();
    add("settings", &config, EMPTY, Box::new(move || a(&[("--config", &c)], &sqlite)));
    let c = secret_config.clone();
    add("settings with a URL", &secret_config, EMPTY, Box::new(move || admin(&[("--config", &c)], &[])));
    let m = member.clone();
    add(
        "credential of a validator",
        &member,
        "not connected to an admin",
        Box::new(move || {
            let mut validator = command("keyward-validator");
            validator.args(["--admin", "http://127.0.0.1:1", "--credential-file"]).arg(&m);
            for listener in ["--listen", "--hook-listen", "--ops-listen"] {
                validator.args([listener, "127.0.0.1:0"]);
            }
            validator
        }),
    );
    let (m, t) = (member, token.clone());
    add(
        "token that was found",
        &token,
        "cannot reach the admin",
        Box::new(move || cli(&["keys", "lookup"], &[("--credential-file", &m), ("--token-file", &t)])),
    );
    readers
}

#[test]
fn a_secret_that_is_not_a_regular_file_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for reader in readers(dir.path()) {
        let kept = reader.file.with_extension("kept");
        fs::rename(&reader.file, &kept).unwrap();
        let listener = UnixListener::bind(dir.path().join("a.sock")).unwrap();
        let kinds: [(&str, Make); 4] = [
            ("a FIFO", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
            ("a directory", |path| fs::create_dir(path).unwrap()),
            ("a device", |path| symlink("/dev/zero", path).unwrap()),
            ("a socket", |path| symlink("a.sock", path).unwrap()),
        ];
        for (kind, make) in kinds {
            make(&reader.file);
            let (ok, text) = run(&mut (reader.command)());
            let name = reader.file.display();
            assert!(
                !ok && text.contains(&format!("{name} is {kind}; it must be a regular file")),
                "{} is {kind}: {text}",
                reader.what
            );
            let removed =
                if kind == "a directory" { fs::remove_dir(&reader.file) } else { fs::remove_file(&reader.file) };
            removed.unwrap();
        }
        // A file that is too large, and one that is not text.
        write_secret(&reader.file, vec![b'x'; (1 << 20) + 1]);
        let (ok, text) = run(&mut (reader.command)());
        assert!(!ok && text.contains("is larger than"), "{}: {text}", reader.what);
        write_secret(&reader.file, b"\xff\xfe");
        let (ok, text) = run(&mut (reader.command)());
        assert!(!ok && text.contains("is not UTF-8"), "{}: {text}", reader.what);
        // A symbolic link to a regular file is accepted: container platforms mount secrets that way.
        fs::remove_file(&reader.file).unwrap();
        symlink(kept.file_name().unwrap(), &reader.file).unwrap();
        let (_, text) = run_until(&mut (reader.command)(), |printed| printed.contains(reader.read));
        assert!(text.contains(reader.read), "{}: {text}", reader.what);
        fs::remove_file(&reader.file).unwrap();
        fs::rename(&kept, &reader.file).unwrap();
        drop(listener);
        fs::remove_file(dir.path().join("a.sock")).unwrap();
    }
}

#[test]
fn a_world_accessible_secret_is_refused_and_a_group_readable_one_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    for reader in readers(dir.path()) {
        let (what, file) = (reader.what, &reader.file);
        let public = ["settings", "token that was found"].contains(&what);
        let keyring = what.starts_with("keyring");
        for open in [0o644, 0o604, 0o606, 0o660, 0o620, 0o601, 0o777, 0o640, 0o440, 0o600, 0o400] {
            set_mode(file, open);
            let (_, text) = run_until(&mut (reader.command)(), |printed| printed.contains(reader.read));
            let remark = format!("{} has mode {open:04o}", file.display());
            let mend = format!("chmod 600 {}", file.display());
            let refused = !public && (open & 0o037 != 0 || (keyring && open & 0o040 != 0));
            assert_eq!(!text.contains(reader.read), refused, "{what}, mode {open:o}: {text}");
            let remarked = !public && open & 0o077 != 0;
            assert_eq!(text.contains(&remark) && text.contains(&mend), remarked, "{what}, mode {open:o}: {text}");
        }
        set_mode(file, 0o600);
    }
}

/// Needs root, as in CI: only root can change the owner of a file.
#[test]
fn a_keyring_of_another_user_is_refused_and_one_of_root_for_the_group_is_accepted() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    set_mode(dir.path(), 0o755);
    let keyward = dir.path().join("keyward");
    fs::copy(command("keyward").get_program(), &keyward).unwrap();
    let work = dir.path().join("work");
    fs::create_dir(&work).unwrap();
    chown(&work, Some(NOBODY), Some(NOBODY)).unwrap();
    let keyring = work.join("keyring");
    write_secret(&keyring, &*Keyring::generate().unwrap().render());
    let admin = |user: u32| {
        let mut admin = Command::new(&keyward);
        admin.args(["admin", "--database-url", "sqlite:empty.db", "--keyring"]).arg(&keyring).current_dir(&work);
        if user != 0 {
            admin.uid(user).gid(user);
        }
        run(&mut admin).1
    };
    const EMPTY: &str = "the database is empty";
    for (owner, group, mode, user, expected) in [
        (NOBODY, NOBODY, 0o600, NOBODY, EMPTY),
        (0, NOBODY, 0o440, NOBODY, EMPTY),
        (0, NOBODY, 0o440, NOBODY, "its group can read it"),
        (NOBODY, NOBODY, 0o440, NOBODY, "chmod 600"),
        (0, NOBODY, 0o640, 0, "chmod 600"),
        (ANOTHER, NOBODY, 0o440, NOBODY, "belongs to user 12345"),
        (ANOTHER, ANOTHER, 0o600, 0, "belongs to user 12345"),
        (0, 0, 0o600, 0, EMPTY),
    ] {
        set_mode(&keyring, mode);
        chown(&keyring, Some(owner), Some(group)).unwrap();
        let text = admin(user);
        assert!(text.contains(expected), "owner {owner}, mode {mode:o}, process of {user}: {text}");
        // Files that root's process created must not block the next process.
        for name in ["empty.db", "empty.lock"] {
            let _ = fs::remove_file(work.join(name));
        }
    }
}

/// Connects to a socket as another user. Returns `true` if that worked.
fn connects(user: u32, socket: &Path) -> bool {
    const SCRIPT: &str = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])";
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT]).arg(socket).current_dir("/").stderr(Stdio::null());
    python.uid(user).gid(user).status().unwrap().success()
}

#[test]
fn access_to_a_socket_is_controlled_by_its_directory_alone() {
    let root = rustix::process::geteuid().is_root();
    let dir = tempfile::tempdir().unwrap();
    set_mode(dir.path(), 0o755);
    let sockets = dir.path().join("sockets");
    fs::create_dir(&sockets).unwrap();
    let names = ["admin", "validator", "hook", "admin-ops", "validator-ops"];
    for umask in ["022", "077", "000", "027"] {
        set_mode(&sockets, 0o755);
        let mut serve = command("keyward");
        serve.arg("serve").arg("--data-dir").arg(dir.path().join("data")).args(["--log-format", "json"]);
        for name in names {
            serve.arg(format!("--{name}-listen")).arg(format!("unix:{}", sockets.join(name).display()));
        }
        let mut process = Process::start(&mut under_umask(umask, &serve), &dir.path().join(format!("{umask}.log")));
        process.wait_for("readiness", |p| last_event(&p.log(), "ready"));
        for name in names {
            let socket = sockets.join(name);
            assert_eq!(mode(&socket), 0o666, "{name} under umask {umask}");
            if root {
                assert!(connects(NOBODY, &socket), "{name} under umask {umask}, directory open");
            }
        }
        if root {
            chown(&sockets, Some(0), Some(NOBODY)).unwrap();
            for (open, user, may) in [(0o700, NOBODY, false), (0o750, NOBODY, true), (0o750, ANOTHER, false)] {
                set_mode(&sockets, open);
                assert_eq!(connects(user, &sockets.join("hook")), may, "directory {open:o}, user {user}");
            }
        }
        process.terminate();
    }
}
