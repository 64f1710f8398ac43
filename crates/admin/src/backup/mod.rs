//! Backups of the data directory of `keyward serve`: one file with the database, and with its keyring unless it is kept apart.
//! `docs/adr/0020-backup-file.md` has the reasons for the format.

mod archive;
mod back_up;
mod check;
mod manifest;
mod partial;
mod read;
mod restore;

pub use back_up::{BackedUp, BackupSecrets, back_up};
pub use restore::{Restored, restore};
