//! SQLite on a disk that fails: acknowledged changes are durable, and the service recovers without a restart.

use std::time::Duration;

use keyward_proto::admin::{AcceptEpochRequest, GrantRoleRequest, Role, VerifyLogRequest};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient, on_platform, reason};
use keyward_tests::disk::{Disk, EIO, ENOSPC};
use keyward_tests::keyward::Serve;
use keyward_tests::{report, size};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::changes::{Change, Effect, METHODS, PROJECT};
use crate::durable::Committed;

/// A `serve` on a disk that can fail, with clients and a direct connection to its database.
struct World {
    serve: Serve,
    admin: Admin,
    client: ValidatorClient,
    committed: Committed,
}

impl World {
    async fn over(disk: &Disk) -> Self {
        let serve = Serve::start_in_environment(&[], disk.environment());
        let world = Self::of(serve).await;
        world.admin.create_project(PROJECT).await.unwrap();
        world.admin.create_key(PROJECT, "updated").await.unwrap();
        let support = GrantRoleRequest { name: "members/root".to_owned(), role: Some(on_platform(Role::Support)) };
        world.admin.members.clone().grant_role(support).await.unwrap();
        world
    }

    async fn of(serve: Serve) -> Self {
        let admin = Admin::connect(serve.admin, &serve.root()).await;
        let client = ValidatorClient::connect(serve.validator).await;
        let committed = Committed::of(&serve.data_dir().join("keyward.db")).await;
        Self { serve, admin, client, committed }
    }

    /// Checks that an acknowledged call is durable: another connection sees an entry after `before`, and the validator
    /// gives the expected verdict.
    async fn check(&mut self, effect: &Effect, before: i64, what: &str) {
        let resources = self.committed.resources_after(before).await;
        assert!(resources.contains(&effect.resource), "{what}: acknowledged {effect:?}, committed {resources:?}");
        if let Some((token, verdict)) = &effect.token {
            assert_eq!(self.client.verdict(token).await, *verdict, "{what}");
        }
    }

    /// Kills the process, starts it again, and checks every acknowledged change.
    async fn check_after_crash(self, acknowledged: &[(Effect, i64)]) {
        let mut world = Self::of(self.serve.restart(true)).await;
        for (effect, before) in acknowledged {
            world.check(effect, *before, "after a crash").await;
        }
        let verified = world.admin.audit.clone().verify_log(VerifyLogRequest::default()).await.unwrap().into_inner();
        assert!(verified.intact, "{verified:?}");
    }
}

/// A way in which the disk fails.
struct Fault {
    name: &'static str,
    writes: u64,
    error: u64,
}

const FAULTS: [Fault; 2] = [
    Fault { name: "full from then on", writes: u64::MAX, error: ENOSPC },
    Fault { name: "one I/O error", writes: 1, error: EIO },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_change_is_durable_wherever_the_disk_fails() {
    let disk = Disk::under("/data/keyward.db");
    let mut world = World::over(&disk).await;
    let mut acknowledged = Vec::new();
    let (mut all, mut refused) = (0, 0);
    for method in METHODS {
        for fault in &FAULTS {
            let (mut positions, mut last) = (0, 0);
            for n in (1..).step_by(size::FAULT_POSITIONS_STEP) {
                let what = format!("{method}, {}, write {n}", fault.name);
                let id = format!("t{all}_{n}").replace('_', "x");
                let change = Change::prepare(method, &world.admin, id).await.expect(&what);
                let before = world.committed.revision().await;
                disk.fail(n, fault.writes, fault.error);
                let first = change.call(&world.admin).await;
                let failed = disk.work();
                let effect = match first {
                    Ok(effect) => effect,
                    Err(status) => {
                        refused += 1;
                        assert_eq!(reason(&status), "STORE_UNAVAILABLE", "{what}: {status:?}");
                        // Once the disk works, the first retry succeeds: no restart is needed.
                        change.call(&world.admin).await.expect(&what)
                    }
                };
                world.check(&effect, before, &what).await;
                acknowledged.push((effect, before));
                if failed == 0 {
                    break;
                }
                positions += 1;
                last = n;
                all += 1;
            }
            report::line(&format!("{method:18} {:20} {positions:3} write positions", fault.name));
            assert!(last > 3, "{method} does not write to the disk");
        }
    }
    report::line(&format!("faults at {all} write positions: {refused} calls refused, 0 acknowledged changes lost"));
    world.check_after_crash(&acknowledged).await;
}

/// AcceptEpoch needs a fork of the history, which is inserted into the database directly. The log would not verify
/// after that, so it is not verified.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_accept_epoch_is_durable_wherever_the_disk_fails() {
    let disk = Disk::under("/data/keyward.db");
    let mut world = World::over(&disk).await;
    let mut direct = SqliteConnectOptions::new().filename(world.serve.data_dir().join("keyward.db"));
    direct = direct.busy_timeout(Duration::from_secs(5));
    let mut direct = direct.connect().await.unwrap();
    let fork = "INSERT INTO history_fork (epoch, former, lost, time) SELECT epoch, zeroblob(16), zeroblob(16), 1 FROM rev_counter";
    sqlx::query(fork).execute(&mut direct).await.unwrap();
    let epoch: String = sqlx::query_scalar("SELECT hex(epoch) FROM rev_counter").fetch_one(&mut direct).await.unwrap();
    let request = AcceptEpochRequest { epoch };
    let accepted = "SELECT count(*) FROM history_fork WHERE accept_time IS NOT NULL";
    for fault in &FAULTS {
        let (mut positions, mut last) = (0, 0);
        for n in (1..).step_by(size::FAULT_POSITIONS_STEP) {
            let what = format!("AcceptEpoch, {}, write {n}", fault.name);
            sqlx::query("UPDATE history_fork SET accept_time = NULL").execute(&mut direct).await.unwrap();
            let before = world.committed.revision().await;
            disk.fail(n, fault.writes, fault.error);
            let first = world.admin.audit.clone().accept_epoch(request.clone()).await;
            let failed = disk.work();
            if let Err(status) = first {
                assert_eq!(reason(&status), "STORE_UNAVAILABLE", "{what}: {status:?}");
                world.admin.audit.clone().accept_epoch(request.clone()).await.expect(&what);
            }
            let found: i64 = sqlx::query_scalar(accepted).fetch_one(&mut direct).await.unwrap();
            assert_eq!((found, world.committed.resources_after(before).await.len()), (1, 1), "{what}");
            if failed == 0 {
                break;
            }
            positions += 1;
            last = n;
        }
        report::line(&format!("{:18} {:20} {positions:3} write positions", "AcceptEpoch", fault.name));
        assert!(last > 3, "AcceptEpoch does not write to the disk");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_deactivation_that_fails_on_a_full_disk_happens_when_there_is_room() {
    let disk = Disk::under("/data/keyward.db");
    let mut world = World::over(&disk).await;
    let old = world.admin.create_key(PROJECT, "old").await.unwrap().token;
    let request = keyward_proto::admin::RotateKeyRequest {
        name: format!("projects/{PROJECT}/keys/old"),
        new_key_id: "new".to_owned(),
        deactivate_old_after: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        request_id: String::new(),
    };
    world.admin.keys.clone().rotate_key(request).await.unwrap();
    let before = world.committed.revision().await;
    disk.fail(1, u64::MAX, ENOSPC);
    let failed = async {
        while !world.serve.process.log().contains("cannot deactivate a key on schedule") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), failed).await.expect("the schedule comes due");
    assert_eq!(world.committed.revision().await, before);
    assert!(disk.work() > 0);
    let deactivated = async {
        while world.client.verdict(&old).await != Verdict::Deactivated {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), deactivated).await.expect("the schedule is executed");
    let effect = Effect { resource: format!("projects/{PROJECT}/keys/old"), token: Some((old, Verdict::Deactivated)) };
    world.check(&effect, before, "the schedule").await;
    world.check_after_crash(&[(effect, before)]).await;
}
