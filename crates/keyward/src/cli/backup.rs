use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use keyward_admin::{BackedUp, BackupSecrets, Restored, back_up, restore};

use crate::cli::output::line;
use crate::defaults;

/// Writes a backup of the data directory of `keyward serve` to one new file, also while the server runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct Backup {
    /// File to create, with mode 0600. It must not exist.
    file: PathBuf,
    /// Directory of the database, the keyring and the root credential.
    #[arg(long, env = "KEYWARD_DATA_DIR", value_name = "DIR", default_value = defaults::DATA_DIR)]
    data_dir: PathBuf,
    /// Leave the keyring and the root credential out of the file. Keep a copy of both apart from it: without the keyring, no
    /// token in the backup is recognized.
    #[arg(long)]
    without_keyring: bool,
}

impl Backup {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let secrets = if self.without_keyring { BackupSecrets::Apart } else { BackupSecrets::Inside };
        let BackedUp { head, entries, rows, bytes, files } =
            Box::pin(back_up(&self.data_dir, &self.file, secrets)).await?;
        let (file, seconds) = (self.file.display(), begun.elapsed().as_secs_f64());
        line(&format!("{file}: revision {}, {} in {seconds:.1} s", head.revision, size(bytes)))?;
        line(&format!("checked: {entries} entries up to revision {}, {rows} rows", head.revision))?;
        line(&format!("It has: {}.", files.join(", ")))?;
        match secrets {
            BackupSecrets::Inside => line("It contains the keyring: keep the file as secret as the keyring itself."),
            BackupSecrets::Apart => line("Keep a copy of the keyring and of the root credential apart from this file."),
        }
    }
}

/// Restores a backup into an empty data directory. The history continues in a new epoch, because changes after the backup are
/// lost.
#[derive(Args, Clone, Debug)]
pub(crate) struct Restore {
    /// File that `keyward backup` wrote.
    file: PathBuf,
    /// Directory for the database, the keyring and the root credential; created if missing. It must be empty.
    #[arg(long, env = "KEYWARD_DATA_DIR", value_name = "DIR", default_value = defaults::DATA_DIR)]
    data_dir: PathBuf,
    /// File of the keyring, for a backup that was made with --without-keyring; copied into the directory.
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
}

impl Restore {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let restored = Box::pin(restore(&self.file, &self.data_dir, self.keyring.as_deref())).await?;
        let Restored { time, revision, head, entries, rows, has_credential } = restored;
        let (dir, epoch) = (self.data_dir.display(), head.epoch);
        line(&format!("{dir}: revision {revision}, backed up at {time}"))?;
        line(&format!("checked: {entries} entries up to revision {revision}, {rows} rows"))?;
        line(&format!("The history continues in the new epoch epochs/{epoch}. Changes after the backup are lost:"))?;
        line("- Keys that were deactivated after it are active again, until a validator that saw it reports them.")?;
        line("- Roles and credentials that were revoked after it are valid again.")?;
        line("- Keys that were created after it are unknown.")?;
        if !has_credential {
            line(&format!("The backup has no root credential: copy yours to {dir}/root.credential."))?;
        }
        line(&format!("Next: keyward serve --data-dir {dir}"))?;
        line("Deactivate and revoke again what was lost; then accept the history:")?;
        line(&format!("      keyward audit accept-epoch epochs/{epoch}"))
    }
}

/// Renders a number of bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1_000)),
        _ => format!("{} MB", bytes.div_ceil(1_000_000)),
    }
}
