//! Every version of PostgreSQL that Keyward supports, under two admins and two validators. `store` has the conformance of the
//! store on each version.

use keyward_proto::admin::VerifyLogRequest;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient};
use keyward_tests::cluster::Cluster;
use keyward_tests::parts::npm;
use keyward_tests::postgres::Postgres;
use keyward_tests::report;

macro_rules! on_versions {
    ($($test:ident: $major:literal,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                deactivations_at_either_admin_are_enforced_everywhere($major).await;
            }
        )+
    };
}

on_versions! {
    postgresql_14_serves_two_admins: 14,
    postgresql_15_serves_two_admins: 15,
    postgresql_16_serves_two_admins: 16,
    postgresql_17_serves_two_admins: 17,
    postgresql_18_serves_two_admins: 18,
}

async fn deactivations_at_either_admin_are_enforced_everywhere(major: u32) {
    let cluster = Cluster::start_over(Postgres::start_version(major).unwrap(), &[]);
    let version = cluster.postgres.psql(&cluster.url, "show server_version").unwrap();
    let processes = [cluster.admin("a1"), cluster.admin("a2")];
    let mut admins = Vec::new();
    for process in &processes {
        admins.push(Admin::connect(process.at, &cluster.root()).await);
    }
    admins[0].create_project("6666").await.unwrap();
    let (mut validators, mut clients) = (Vec::new(), Vec::new());
    for n in 0..2 {
        let validator = cluster.validator(&format!("v{n}"), &processes[0], &[processes[n].at]);
        clients.push(ValidatorClient::connect(validator.grpc).await);
        validators.push(validator);
    }
    for n in 0..10 {
        let name = format!("key{n}");
        let made = admins[n % 2].create_key("6666", &name).await.unwrap();
        for client in &clients {
            assert_eq!(client.verdict(&made.token).await, Verdict::Valid, "{version}: {name}");
        }
        let receipt = admins[(n + 1) % 2].deactivate("6666", &name).await.unwrap().receipt.unwrap();
        let outcome = (receipt.enforced_by(), receipt.validators_acked, receipt.validators_lapsed);
        assert_eq!(outcome, (EnforcedBy::Acks, 2, 0), "{version}: {receipt:?}");
        for client in &clients {
            assert_eq!(client.verdict(&made.token).await, Verdict::Deactivated, "{version}: {name}");
        }
    }
    let verified = admins[1].audit.clone().verify_log(VerifyLogRequest::default()).await.unwrap().into_inner();
    assert_eq!(verified.findings, [], "{version}");
    report::line(&format!("PostgreSQL {version}: 10 keys created, validated and deactivated with two admins"));
}

#[test]
fn the_documentation_names_the_tested_versions() {
    let page = include_str!("../../docs/database.md");
    for package in npm::POSTGRESQL {
        let version = package.version.split(".0-").next().unwrap();
        assert!(page.contains(version), "docs/database.md lacks PostgreSQL {version}");
    }
}
