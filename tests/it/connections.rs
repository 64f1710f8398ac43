//! How an admin's connections appear at a PostgreSQL server, and what the server's notices do to the admin's log.

use std::time::{Duration, Instant};

use keyward_tests::cluster::Cluster;

/// The names of all connections to the database, except for the one that asks.
fn names(cluster: &Cluster) -> String {
    let sql = "SELECT string_agg(DISTINCT application_name, ',') FROM pg_stat_activity \
               WHERE datname = 'keyward' AND pid <> pg_backend_pid()";
    cluster.postgres.psql(&cluster.postgres.url(), sql).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_carry_a_name_that_the_database_url_can_replace() {
    let cluster = Cluster::start(&[]);
    let admin = cluster.admin("a1");
    assert_eq!(names(&cluster), "keyward");
    drop(admin);
    let _named = cluster.admin_through("a2", &format!("{}?application_name=keys-eu", cluster.url));
    // The server ends the sessions of the killed admin on its own time.
    let begun = Instant::now();
    while names(&cluster) != "keys-eu" {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", names(&cluster));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_schema_that_exists_logs_no_notice_of_the_server() {
    let cluster = Cluster::start(&[]);
    let again = cluster.init(&[]);
    assert!(again.status.success());
    assert!(!String::from_utf8_lossy(&again.stderr).contains("already exists"));
    let admin = cluster.admin("a1");
    assert!(!admin.process.log().contains("already exists"), "{}", admin.process.log());
}
