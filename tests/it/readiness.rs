//! Readiness: `/readyz` and the gRPC health service of a role report the same.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use keyward_tests::client::channel;
use keyward_tests::cluster::Cluster;
use keyward_tests::proxy::{Network, Proxy};
use keyward_tests::web;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Longest wait for a change of the readiness: a lease of 2 s, a heartbeat, and the delays of a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The services of an admin with a health of their own; the empty name stands for the whole server.
const OF_ADMIN: [&str; 8] = [
    "",
    "keyward.admin.v1.ProjectService",
    "keyward.admin.v1.KeyService",
    "keyward.admin.v1.MemberService",
    "keyward.admin.v1.AuditService",
    "keyward.admin.v1.SdkService",
    "keyward.replica.v1.PeerService",
    "keyward.replica.v1.ReplicaService",
];

/// The services of a validator with a health of their own.
const OF_VALIDATOR: [&str; 3] = ["", "keyward.validate.v1.ValidateService", "envoy.service.auth.v3.Authorization"];

/// Waits until `/readyz` on `ops` answers `status`, then until each service on `grpc` has the health that belongs to it.
async fn until(role: &str, ops: SocketAddr, status: u16, grpc: SocketAddr, services: &[&str]) {
    let begun = Instant::now();
    while web::get(ops, "/readyz", &[]).await.status != status {
        assert!(begun.elapsed() < PATIENCE, "{role}: /readyz is not {status}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let expected = if status == 200 { ServingStatus::Serving } else { ServingStatus::NotServing };
    // The health service follows with a delay of 20 ms.
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Without a credential, as probes call it: the admin cannot check one while its database is down.
    let mut client = HealthClient::new(channel(grpc).await);
    for service in services {
        let check = HealthCheckRequest { service: (*service).to_owned() };
        let health = client.check(check).await.unwrap().into_inner();
        assert_eq!(health.status(), expected, "{role}, {service:?}, /readyz is {status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grpc_health_of_admins_and_validators_follows_readyz_while_the_database_is_down() {
    let cluster = Cluster::start(&["--lease", "2s"]);
    let database = Proxy::to(cluster.database_at()).await;
    let admin = cluster.admin_through("a1", &cluster.url_through(database.at));
    let validator = cluster.validator("v1", &admin, &[admin.at]);
    for (network, status) in
        [(Network::Whole, 200), (Network::Cut, 503), (Network::Whole, 200), (Network::Silent, 503), (Network::Cut, 503)]
    {
        database.set(network);
        until("the admin", admin.ops, status, admin.at, &OF_ADMIN).await;
        until("the validator", validator.ops, status, validator.grpc, &OF_VALIDATOR).await;
    }
}
