//! `keyward init`, and the conditions under which `keyward admin` starts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use keyward_tests::client::Admin;
use keyward_tests::cluster::Cluster;
use keyward_tests::keyward::{command, write_secret};
use keyward_tests::process::output_of;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_init_changes_nothing() {
    let cluster = Cluster::start(&[]);
    let (keyring, root) = (fs::read(cluster.keyring()).unwrap(), cluster.root());
    for secret in [cluster.keyring(), cluster.credential_file()] {
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600, "{}", secret.display());
    }
    let process = cluster.admin("a1");
    let admin = Admin::connect(process.at, &root).await;
    admin.create_project("6666").await.unwrap();
    let again = cluster.init(&["--lease", "3s"]);
    assert!(again.status.success(), "{}", output_of(&again));
    assert!(output_of(&again).contains("was set up before"));
    assert_eq!(fs::read(cluster.keyring()).unwrap(), keyring);
    assert_eq!(cluster.root(), root);
    assert!(!output_of(&again).contains(&root) && !output_of(&again).contains("kwm_"), "{}", output_of(&again));
    // The database still works after the root credential's file was lost.
    fs::remove_file(cluster.credential_file()).unwrap();
    assert!(cluster.init(&[]).status.success());
    assert!(!cluster.credential_file().exists(), "a new file would hold a credential that the database does not know");
    assert!(admin.create_project("7777").await.is_ok());
}

fn admin_output(cluster: &Cluster, url: &str) -> Output {
    cluster.admin_command(url).output().unwrap()
}

#[test]
fn an_admin_refuses_an_empty_database_and_a_missing_or_wrong_keyring() {
    let cluster = Cluster::start(&[]);
    let empty = cluster.postgres.database("empty").unwrap();
    let refused = |output: Output, why: &str| {
        let text = output_of(&output);
        assert!(!output.status.success() && text.contains(why), "{text}");
    };
    refused(admin_output(&cluster, &empty), "keyward init");
    let (keyring, kept) = (cluster.keyring(), cluster.keyring().with_extension("kept"));
    fs::rename(&keyring, &kept).unwrap();
    refused(admin_output(&cluster, &cluster.url), "keyward init");
    refused(cluster.init(&[]), "keyring is not at");
    assert!(!keyring.exists(), "no new keyring is made");
    // The keyring of another deployment.
    let other = Cluster::start(&[]);
    fs::copy(other.keyring(), &keyring).unwrap();
    refused(admin_output(&cluster, &cluster.url), "not the one that the database was made with");
    refused(cluster.init(&[]), "not the one that the database was made with");
    fs::rename(&kept, &keyring).unwrap();
    assert!(cluster.init(&[]).status.success());
}

#[test]
fn of_concurrent_inits_one_succeeds_and_the_others_change_nothing() {
    let cluster = Cluster::start(&[]);
    let url = cluster.postgres.database("fresh").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let inits: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut init = command("keyward");
                    init.args(["init", "--database-url", &url, "--keyring", &path("keyring")]);
                    init.args(["--root-credential", &path("root")]).output().unwrap()
                })
            })
            .collect();
        inits.into_iter().map(|init| init.join().unwrap()).collect()
    });
    // An init that starts while another one runs reports it and changes nothing.
    let count = |text: &str| outputs.iter().filter(|output| output_of(output).contains(text)).count();
    let (made, there, busy) = (count("is set up."), count("was set up before"), count("another keyward process"));
    assert_eq!((made, made + there + busy), (1, 4), "{outputs:?}");
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        3,
        "keyring, its lock and the root credential; no partial file"
    );
}

#[test]
fn the_database_password_appears_in_no_error_and_can_be_read_from_a_file() {
    const PASSWORD: &str = "correct-horse-battery";
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        write_secret(&path, text);
        path.display().to_string()
    };
    let unreachable = format!("postgres://keyward:{PASSWORD}@127.0.0.1:1/keyward");
    let (url, keyring) = (file("url", &format!("{unreachable}\n")), dir.path().join("keyring").display().to_string());
    let config = file("config.toml", &format!("keyring = \"k\"\ndatabse_url = \"{unreachable}\"\n"));
    let broken = file("broken.toml", &format!("keyring = \"k\"\ndatabase_url = \"{unreachable}\n"));
    let init = ["init", "--keyring", &keyring, "--root-credential", "root"];
    let malformed = format!("{unreachable}:x:");
    let cases: [(&[&str], &str); 6] = [
        (&[&init[..], &["--database-url", &unreachable]].concat(), "cannot open the database"),
        (&[&init[..], &["--database-url-file", &url]].concat(), "cannot open the database"),
        (&[&init[..], &["--database-url-file", &url, "--database-url", &unreachable]].concat(), "exclude each other"),
        (&[&init[..], &["--database-url", &malformed]].concat(), "cannot open the database"),
        (&["admin", "--config", &config], "near line 2"),
        (&["admin", "--config", &broken], "near line 2"),
    ];
    for (arguments, expected) in cases {
        let output = command("keyward").args(arguments).current_dir(dir.path()).output().unwrap();
        let text = output_of(&output);
        assert!(!output.status.success() && text.contains(expected), "{arguments:?}: {text}");
        assert!(!text.contains("battery"), "{arguments:?}: {text}");
    }
}

/// Roles: one that owns the schema, and one for admins that may read and write rows only.
fn grant_rows_only(cluster: &Cluster) -> String {
    let sql = "CREATE ROLE rows_only LOGIN PASSWORD 'rows'; \
               REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
               GRANT USAGE ON SCHEMA public TO rows_only; \
               GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO rows_only";
    cluster.postgres.psql(&cluster.url, sql).unwrap();
    let authority = cluster.url.split_once("://").unwrap().1.split_once('@').unwrap();
    format!("postgres://rows_only:rows@{}", authority.1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_only_read_and_write_rows_starts_an_admin() {
    let cluster = Cluster::start(&[]);
    let url = grant_rows_only(&cluster);
    let process = cluster.admin_through("a1", &url);
    let admin = Admin::connect(process.at, &cluster.root()).await;
    admin.create_project("6666").await.unwrap();
    admin.create_key("6666", "k").await.unwrap();
    admin.deactivate("6666", "k").await.unwrap();
    // Nothing about the schema was tried.
    let log = cluster.postgres.log().unwrap();
    assert!(!log.contains("permission denied"), "{log}");
    assert!(!process.process.log().contains("seaql_migrations"), "{}", process.process.log());
}

#[test]
fn an_admin_that_may_not_migrate_refuses_an_older_schema_and_names_init() {
    let cluster = Cluster::start(&[]);
    let url = grant_rows_only(&cluster);
    let newest = "(SELECT max(version) FROM seaql_migrations)";
    let sql = format!("DELETE FROM seaql_migrations WHERE version = {newest}; ALTER TABLE request DROP COLUMN mac");
    cluster.postgres.psql(&cluster.url, &sql).unwrap();
    let text = output_of(&admin_output(&cluster, &url));
    assert!(text.contains("older than this version") && text.contains("`keyward init`"), "{text}");
    assert!(cluster.init(&[]).status.success());
    let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO rows_only";
    cluster.postgres.psql(&cluster.url, grant).unwrap();
    drop(cluster.admin_through("a1", &url));
}
