//! Backups of the embedded database, and databases that are not whole.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient};
use keyward_tests::cluster::Cluster;
use keyward_tests::keyward::{Serve, command};
use keyward_tests::process::output_of;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tempfile::TempDir;

fn succeeded(output: &Output) -> String {
    let text = output_of(output);
    assert!(output.status.success(), "{text}");
    text
}

fn refused(output: &Output, why: &str) -> String {
    let text = output_of(output);
    assert!(!output.status.success() && text.contains(why), "no {why:?} in {text}");
    text
}

fn backup(data: &Path, file: &Path, arguments: &[&str]) -> Output {
    command("keyward").arg("backup").arg(file).arg("--data-dir").arg(data).args(arguments).output().unwrap()
}

fn restore(file: &Path, data: &Path, arguments: &[&str]) -> Output {
    command("keyward").arg("restore").arg(file).arg("--data-dir").arg(data).args(arguments).output().unwrap()
}

/// Runs `keyward serve` on a data directory that it must refuse. Returns its output.
fn serve_refuses(data: &Path, why: &str) -> String {
    let mut serve = Command::new("timeout");
    serve.arg("60").arg(command("keyward").get_program()).arg("serve").arg("--data-dir").arg(data);
    for flag in
        ["--admin-listen", "--validator-listen", "--hook-listen", "--admin-ops-listen", "--validator-ops-listen"]
    {
        serve.args([flag, "127.0.0.1:0"]);
    }
    let output = serve.output().unwrap();
    assert_ne!(output.status.code(), Some(124), "it served: {}", output_of(&output));
    refused(&output, why)
}

async fn database(data: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite:{}", data.join("keyward.db").display())).await.unwrap()
}

async fn execute(database: &mut SqliteConnection, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(database).await.unwrap();
}

/// Copies a data directory.
fn copied(data: &Path, to: &Path) -> PathBuf {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for file in fs::read_dir(data).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "serve.lock" && file.file_name() != "keyward.lock" {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    to.to_owned()
}

/// The head of the log, and its entries by the names of their resources.
async fn log_of(data: &Path) -> (i64, Vec<(i64, String)>) {
    let mut database = database(data).await;
    let head = sqlx::query_scalar("SELECT revision FROM rev_counter").fetch_one(&mut database).await.unwrap();
    let log = sqlx::query_as("SELECT revision, resource FROM change_log ORDER BY revision");
    (head, log.fetch_all(&mut database).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_refuses_a_database_whose_log_does_not_end_at_its_head_and_writes_nothing_over_the_gap() {
    let mut serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    for n in 1..=5 {
        admin.create_key("6666", &format!("key{n}")).await.unwrap();
    }
    drop(admin);
    serve.process.terminate();
    let dir = tempfile::tempdir().unwrap();
    for (name, sql, why) in [
        ("ahead", "DELETE FROM change_log WHERE revision > 5", "ends at revision 5, and its head is at revision 7"),
        ("behind", "UPDATE rev_counter SET revision = 6", "ends at revision 7, and its head is at revision 6"),
        ("gap", "DELETE FROM change_log WHERE revision = 4", "has 6 entries up to revision 7"),
        ("other", "UPDATE rev_counter SET chain = zeroblob(32)", "differs from its last entry, at revision 7"),
        ("headless", "DELETE FROM rev_counter", "has entries and no head"),
        ("empty", "DELETE FROM change_log", "ends at revision 0, and its head is at revision 7"),
    ] {
        let data = copied(&serve.data_dir(), &dir.path().join(name));
        execute(&mut database(&data).await, sql).await;
        let before = if name == "headless" { None } else { Some(log_of(&data).await) };
        let text = serve_refuses(&data, why);
        let path = data.canonicalize().unwrap().join("keyward.db").display().to_string();
        assert!(text.contains(&path) && text.contains("keyward backup FILE"), "{name}: {text}");
        if let Some(before) = before {
            assert_eq!(log_of(&data).await, before, "{name}: the log was written to");
        }
        refused(&backup(&data, &dir.path().join("refused"), &[]), why);
        assert!(!dir.path().join("refused").exists(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_refuses_a_damaged_file() {
    let mut serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    for n in 1..=40 {
        admin.create_key("6666", &format!("key{n}")).await.unwrap();
    }
    drop(admin);
    serve.process.terminate();
    let dir = tempfile::tempdir().unwrap();
    let whole = fs::read(serve.data_dir().join("keyward.db")).unwrap();
    for (name, damage) in [("header", 0..100), ("schema", 100..4_096), ("page", 4_096..whole.len()), ("short", 0..0)] {
        let data = copied(&serve.data_dir(), &dir.path().join(name));
        let mut bytes = whole.clone();
        bytes[damage].fill(0xa5);
        if name == "short" {
            bytes.truncate(whole.len() - 3 * 4_096);
        }
        fs::write(data.join("keyward.db"), bytes).unwrap();
        let text = serve_refuses(&data, "is not whole");
        assert!(text.contains("keyward.db") && text.contains("keyward restore FILE"), "{name}: {text}");
    }
}

/// The database file is copied first, and its write-ahead log later, after the server has begun that file anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_copy_of_a_live_directory_is_refused() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let torn = dir.path().join("torn");
    let (database, log) = (serve.data_dir().join("keyward.db"), serve.data_dir().join("keyward.db-wal"));
    admin.create_key("6666", "before").await.unwrap();
    copied(&serve.data_dir(), &torn);
    // Two checkpoints begin the write-ahead log anew: what it had before is in the file that was copied too early.
    let length = || fs::metadata(&database).unwrap().len();
    let mut n = 0;
    while length() < 40 * 4_096 || n < 400 {
        admin.create_key("6666", &format!("key{n}")).await.unwrap();
        n += 1;
    }
    fs::copy(&log, torn.join("keyward.db-wal")).unwrap();
    let _ = fs::remove_file(torn.join("keyward.db-shm"));
    serve_refuses(&torn, "is not whole");
}

/// A change during the backup.
struct Made {
    token: String,
    created_at: i64,
    deactivated_at: Option<i64>,
}

/// Creates keys until `stop` is set, and deactivates every second one. Counts the keys in `total`.
async fn load(admin: Admin, worker: usize, total: Arc<AtomicUsize>, stop: Arc<AtomicBool>) -> Vec<Made> {
    let mut made = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let id = format!("load{worker}_{}", made.len());
        let created = admin.create_key("6666", &id).await.unwrap();
        let mut key = Made {
            token: created.token,
            created_at: created.receipt.unwrap_or_default().revision,
            deactivated_at: None,
        };
        if made.len() % 2 == 0 {
            let receipt = admin.deactivate("6666", &id).await.unwrap().receipt;
            key.deactivated_at = Some(receipt.unwrap_or_default().revision);
        }
        made.push(key);
        total.fetch_add(1, Ordering::Relaxed);
    }
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_of_one_moment_and_can_be_restored_verified_and_served() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let total = Arc::new(AtomicUsize::new(0));
    let worker = |n| tokio::spawn(load(admin.clone(), n, Arc::clone(&total), Arc::clone(&stop)));
    let workers: Vec<_> = (0..4).map(worker).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut revisions = Vec::new();
    for n in 0..3 {
        // Each backup begins after further keys.
        let enough = total.load(Ordering::Relaxed) + 4;
        while total.load(Ordering::Relaxed) < enough {
            assert!(workers.iter().all(|worker| !worker.is_finished()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (data, file) = (serve.data_dir(), dir.path().join(format!("backup{n}")));
        let output = tokio::task::spawn_blocking(move || backup(&data, &file, &[])).await.unwrap();
        let text = succeeded(&output);
        let revision = text.split("revision ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
        revisions.push(revision.parse::<i64>().unwrap());
    }
    stop.store(true, Ordering::Relaxed);
    let mut made = Vec::new();
    for worker in workers {
        made.extend(worker.await.unwrap());
    }
    let (file, revision) = (dir.path().join("backup2"), revisions[2]);
    assert!(revisions.is_sorted() && revisions[0] > 2, "{revisions:?}");
    let restored = Serve::start_on(|data| {
        let text = succeeded(&restore(&file, data, &[]));
        assert!(text.contains(&format!("revision {revision}, backed up at")), "{text}");
        assert!(text.contains("keyward audit accept-epoch epochs/") && text.contains("are active again"), "{text}");
    });
    let verified = succeeded(&restored.operator(&["audit", "verify"]).output().unwrap());
    assert!(verified.contains(&format!("up to revision {}", revision + 1)), "{verified}");
    // What the backup has is judged as at its moment; what came later is unknown.
    let validator = ValidatorClient::connect(restored.validator).await;
    let (mut before, mut after) = (0, 0);
    for key in &made {
        let expected = match key {
            Made { created_at, .. } if *created_at > revision => Verdict::Unknown,
            Made { deactivated_at: Some(at), .. } if *at <= revision => Verdict::Deactivated,
            _ => Verdict::Valid,
        };
        if expected == Verdict::Unknown {
            after += 1;
        } else {
            before += 1;
        }
        assert_eq!(validator.verdict(&key.token).await, expected, "created at {}", key.created_at);
    }
    assert!(before > 0, "{before} before, {after} after");
    // The restored history is one that an owner has to accept, and goes on.
    let forks = restored.operator(&["audit", "list", "--filter", "type = HISTORY_FORKED"]).output().unwrap();
    let forks = succeeded(&forks);
    let epoch = forks.split("epochs/").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let accepted = restored.operator(&["audit", "accept-epoch", &format!("epochs/{epoch}")]).output().unwrap();
    assert!(succeeded(&accepted).contains("accepted"));
    let admin = Admin::connect(restored.admin, &restored.root()).await;
    let token = admin.create_key("6666", "afterwards").await.unwrap().token;
    assert_eq!(validator.verdict(&token).await, Verdict::Valid);
    println!("{} keys made; backups at {revisions:?}; {before} keys in the last, {after} after it", made.len());
}

/// A validator that saw a key deactivated after the backup goes on denying its token, when it follows the restored database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_surviving_validator_denies_what_was_deactivated_after_the_backup() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let token = admin.create_key("6666", "leaked").await.unwrap().token;
    let survivor = serve.spawn_validator("edge");
    let validator = ValidatorClient::connect(survivor.grpc).await;
    let (data, dir) = (serve.data_dir(), tempfile::tempdir().unwrap());
    let file = dir.path().join("backup");
    succeeded(&backup(&data, &file, &[]));
    admin.deactivate("6666", "leaked").await.unwrap();
    assert_eq!(validator.verdict(&token).await, Verdict::Deactivated);
    let restored = serve.restart_on(false, |data| {
        fs::remove_dir_all(data).unwrap();
        succeeded(&restore(&file, data, &[]));
    });
    let admin = Admin::connect(restored.admin, &restored.root()).await;
    // The new key arrives at the survivor, so it follows the restored database.
    let new = admin.create_key("6666", "new").await.unwrap().token;
    let begun = std::time::Instant::now();
    while validator.validate(&new).await.map(|answer| answer.verdict()).ok() != Some(Verdict::Valid) {
        assert!(begun.elapsed() < keyward_tests::process::PATIENCE, "the validator does not follow");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(validator.verdict(&token).await, Verdict::Deactivated);
}

/// A server with one key that has ended, and a directory for backups.
async fn stopped() -> (Serve, TempDir) {
    let mut serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    drop(admin);
    serve.process.terminate();
    (serve, tempfile::tempdir().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_private_and_never_replaces_a_file() {
    let (serve, dir) = stopped().await;
    let file = dir.path().join("backup");
    let mut shell = Command::new("sh");
    let keyward = command("keyward").get_program().to_owned();
    shell.arg("-c").arg("umask 000; exec \"$0\" \"$@\"").arg(keyward).arg("backup").arg(&file);
    succeeded(&shell.arg("--data-dir").arg(serve.data_dir()).output().unwrap());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let whole = fs::read(&file).unwrap();
    refused(&backup(&serve.data_dir(), &file, &[]), "exists already");
    assert_eq!(fs::read(&file).unwrap(), whole);
    refused(&backup(dir.path(), &dir.path().join("none"), &[]), "no database of `keyward serve`");
    // Nothing else is left beside the backup, nor in the data directory.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(!serve.data_dir().join("keyward.db-wal").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_without_keyring_has_no_secret_and_needs_its_keyring_to_be_restored() {
    let (serve, dir) = stopped().await;
    let file = dir.path().join("backup");
    let text = succeeded(&backup(&serve.data_dir(), &file, &["--without-keyring"]));
    assert!(text.contains("It has: keyward.db."), "{text}");
    let bytes = fs::read(&file).unwrap();
    let holds = |secret: &str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    let keyring = serve.data_dir().join("keyring");
    let secrets = fs::read_to_string(&keyring).unwrap();
    for line in secrets.lines().filter(|line| !line.starts_with('#')) {
        assert!(!holds(line.split(' ').next_back().unwrap()), "the keyring is in the backup");
    }
    assert!(!holds(&serve.root()));
    let data = dir.path().join("restored");
    refused(&restore(&file, &data, &[]), "give its keyring by --keyring FILE");
    let other = Serve::start();
    let wrong = other.data_dir().join("keyring").display().to_string();
    refused(&restore(&file, &data, &["--keyring", &wrong]), "not the one of the database");
    let text = succeeded(&restore(&file, &data, &["--keyring", &keyring.display().to_string()]));
    assert!(text.contains("has no root credential"), "{text}");
    assert_eq!(fs::read_to_string(data.join("keyring")).unwrap(), secrets);
    for file in ["keyring", "keyward.db"] {
        assert_eq!(fs::metadata(data.join(file)).unwrap().permissions().mode() & 0o7777, 0o600, "{file}");
    }
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o7777, 0o700);
}

/// Positions in a tar archive: in each header its name, mode, time, checksum with the bytes that end it, and kind; in each
/// content its ends; in the padding after each content its ends; in the end of the archive. `backup/restore.rs` of the crate
/// `keyward-admin` has a test of every byte.
fn positions_of_each_kind(archive: &[u8]) -> Vec<usize> {
    let (mut positions, mut at) = (vec![archive.len() - 1_024, archive.len() - 1], 0);
    while archive[at] != 0 {
        let digits = str::from_utf8(&archive[at + 124..at + 135]).unwrap();
        let size = usize::from_str_radix(digits, 8).unwrap();
        positions.extend([0, 100, 140, 148, 154, 155, 156].map(|offset| at + offset));
        let (content, end) = (at + 512, at + 512 + size);
        let next = end.next_multiple_of(512);
        positions.extend([content, end - 1]);
        positions.extend(if next > end { vec![end, next - 1] } else { Vec::new() });
        at = next;
    }
    assert_eq!(at, archive.len() - 1_024);
    positions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_restored_only_whole_and_only_into_an_empty_directory() {
    let (serve, dir) = stopped().await;
    let file = dir.path().join("backup");
    succeeded(&backup(&serve.data_dir(), &file, &[]));
    refused(&restore(&file, &serve.data_dir(), &[]), "is not empty");
    let whole = fs::read(&file).unwrap();
    let (data, damaged) = (dir.path().join("restored"), dir.path().join("damaged"));
    let mut cases = vec![whole[..whole.len() - 512].to_vec(), whole[..1_000].to_vec(), Vec::new(), b"text".to_vec()];
    cases.push([&whole[..], b"more"].concat());
    for at in positions_of_each_kind(&whole) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        cases.push(bytes);
    }
    for (n, bytes) in cases.into_iter().enumerate() {
        fs::write(&damaged, bytes).unwrap();
        fs::set_permissions(&damaged, fs::Permissions::from_mode(0o600)).unwrap();
        refused(&restore(&damaged, &data, &[]), "cannot restore");
        let left: Vec<_> = fs::read_dir(&data).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left, ["serve.lock"], "case {n}");
    }
    succeeded(&restore(&file, &data, &[]));
    refused(&restore(&file, &data, &[]), "is not empty");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_refuses_a_postgresql_database_whose_log_does_not_end_at_its_head() {
    let cluster = Cluster::start(&[]);
    let process = cluster.admin("a1");
    Admin::connect(process.at, &cluster.root()).await.create_project("6666").await.unwrap();
    drop(process);
    cluster.postgres.psql(&cluster.url, "DELETE FROM change_log WHERE revision = 3").unwrap();
    let why = "the change log ends at revision 2, and its head is at revision 3";
    let text = refused(&cluster.admin_command(&cluster.url).output().unwrap(), why);
    assert!(text.contains("pg_dump"), "{text}");
}
