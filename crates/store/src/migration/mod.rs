//! Versioned, embedded migrations. They are applied forwards only. Each is written so that the version of Keyward before it
//! still runs on its result (expand, then contract).

use sea_orm_migration::prelude::*;

mod m20261123_000001_initial;
mod m20261123_000002_admin_node;
mod m20261123_000003_rotation;
mod m20261124_000004_revocation;
mod m20261124_000005_audit;
mod m20261125_000006_admin_address;
mod m20261125_000007_fork;
mod m20261128_000008_request_mac;

/// The migration that adds the column for the MAC of the head.
pub(crate) const ADDS_HEAD_MAC: &str = "m20261124_000005_audit";

pub(crate) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_initial::Migration),
            Box::new(m20261123_000002_admin_node::Migration),
            Box::new(m20261123_000003_rotation::Migration),
            Box::new(m20261124_000004_revocation::Migration),
            Box::new(m20261124_000005_audit::Migration),
            Box::new(m20261125_000006_admin_address::Migration),
            Box::new(m20261125_000007_fork::Migration),
            Box::new(m20261128_000008_request_mac::Migration),
        ]
    }
}
