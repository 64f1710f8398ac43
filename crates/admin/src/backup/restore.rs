use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use keyward_domain::Position;
use keyward_store::Store;
use keyward_token::Keyring;
use prost_types::Timestamp;
use zeroize::Zeroizing;

use crate::backup::archive;
use crate::backup::check::{Checked, check};
use crate::backup::manifest::{CREDENTIAL, DATABASE, KEYRING, Listed, Mac, Manifest, check_mac};
use crate::backup::partial::{PartialDirectory, publish};
use crate::backup::read::{Unverified, expect, text_of};
use crate::files::{check_data_dir, lock_file, read_keyring, write_secret};
use crate::secrets::chain_key;
use crate::sync::record_external_leases;

/// The largest keyring or credential, in bytes.
const LARGEST_SECRET: u64 = 1 << 20;

/// Files that an empty data directory may have: the lock of `keyward serve`, and the directory of a fresh ext4 file system.
const NO_CONTENT: [&str; 2] = [LOCK, "lost+found"];

/// The lock file of a data directory.
const LOCK: &str = "serve.lock";

/// The result of [`restore`].
#[derive(Clone, Debug)]
pub struct Restored {
    /// When the backup was made, RFC 3339.
    pub time: String,
    /// The newest revision in the backup.
    pub revision: i64,
    /// The end of the log: the entry that begins the new epoch.
    pub head: Position,
    /// The number of log entries that were checked.
    pub entries: u64,
    /// The number of rows that were checked.
    pub rows: u64,
    /// `true` if the backup has the root credential, which is now in the data directory.
    pub has_credential: bool,
}

/// Restores a backup into the data directory `data_dir`, which must be empty or missing. `keyring`: the keyring of a backup
/// that was made without it.
///
/// Everything is checked before the first file gets its name: the archive, the structure of the database, chain, head, and
/// every row. The log then continues in a new epoch, because changes after the backup are lost.
///
/// # Errors
/// The directory is not empty; the backup is damaged, incomplete or of another keyring. The directory stays empty.
pub async fn restore(file: &Path, data_dir: &Path, keyring: Option<&Path>) -> anyhow::Result<Restored> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(data_dir);
    made.with_context(|| format!("cannot create {}", data_dir.display()))?;
    check_data_dir(data_dir)?;
    let _held = lock_file(&data_dir.join(LOCK))?;
    check_empty(data_dir)?;
    let work = PartialDirectory::create(data_dir.join("restore.partial"))?;
    let input = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let access = input.metadata()?;
    let failed = || format!("cannot restore {}", file.display());
    let unpacked = unpack(input, work.path(), keyring).with_context(failed)?;
    if unpacked.secrets.is_some() && access.is_file() && access.mode() & 0o077 != 0 {
        tracing::warn!("{} holds the keyring, and others than its owner can read it: chmod 600", file.display());
    }
    let restored = finish(&work.path().join(DATABASE), &unpacked).await.with_context(failed)?;
    // The keyring last: without it, no server starts on a directory that is restored in part.
    let name = |name: &str| data_dir.join(name);
    publish(&work.path().join(DATABASE), &name(DATABASE)).with_context(failed)?;
    if let Some(credential) = unpacked.secrets.as_ref().and_then(|secrets| secrets.credential.as_ref()) {
        write_secret(&name(CREDENTIAL), credential)?;
    }
    write_secret(&name(KEYRING), &unpacked.keyring.render())?;
    Ok(restored)
}

/// Fails if a directory has files.
fn check_empty(dir: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot read {}", dir.display());
    for entry in fs::read_dir(dir).with_context(failed)? {
        let name = entry.with_context(failed)?.file_name();
        if NO_CONTENT.iter().all(|allowed| name != **allowed) {
            let (dir, name) = (dir.display(), name.display());
            bail!("{dir} is not empty (it has {name}): a backup is restored into an empty directory only");
        }
    }
    Ok(())
}

/// The content of a backup, besides the database.
struct Unpacked {
    manifest: Manifest,
    /// When the backup was made.
    time: Timestamp,
    keyring: Keyring,
    /// `None` for a backup without secrets.
    secrets: Option<Secrets>,
}

/// The secrets of a backup, besides the keyring.
struct Secrets {
    credential: Option<Zeroizing<String>>,
}

/// Reads a backup from its beginning to its end, and writes its database into `dir`.
fn unpack(input: File, dir: &Path, keyring: Option<&Path>) -> anyhow::Result<Unpacked> {
    let mut input = BufReader::with_capacity(1 << 16, input);
    let unverified = Unverified::read(&mut input)?;
    let has_secrets = match unverified.names()[..] {
        [DATABASE] => false,
        [KEYRING, DATABASE] | [KEYRING, CREDENTIAL, DATABASE] => true,
        _ => bail!("its manifest lists other files than a backup has"),
    };
    let inside = if has_secrets { Some(text_of(&mut input, KEYRING, LARGEST_SECRET)?) } else { None };
    let ring = match (&inside, keyring) {
        (Some(text), None) => Keyring::parse(text).context("its keyring cannot be read")?,
        (None, Some(path)) => read_keyring(path)?.with_context(|| format!("{} is missing", path.display()))?,
        (Some(_), Some(_)) => bail!("it has its keyring inside, so --keyring must not be given"),
        (None, None) => bail!("it was made with --without-keyring: give its keyring by --keyring FILE"),
    };
    let manifest = unverified.verified(&ring)?;
    let time = manifest.time()?;
    let mut credential = None;
    for listed in &manifest.files {
        match listed.name.as_str() {
            KEYRING => {
                let text = inside.as_deref().map_or("", String::as_str);
                check_mac(&ring, KEYRING, text.as_bytes(), &listed.mac)?;
            }
            CREDENTIAL => {
                let text = text_of(&mut input, CREDENTIAL, LARGEST_SECRET)?;
                check_mac(&ring, CREDENTIAL, text.as_bytes(), &listed.mac)?;
                credential = Some(text);
            }
            _ => unpack_database(&mut input, &ring, listed, dir)?,
        }
    }
    if archive::next(&mut input)?.is_some() {
        bail!("it has more files than its manifest lists");
    }
    Ok(Unpacked { manifest, time, keyring: ring, secrets: has_secrets.then_some(Secrets { credential }) })
}

fn unpack_database(input: &mut impl Read, keyring: &Keyring, listed: &Listed, dir: &Path) -> anyhow::Result<()> {
    let header = expect(input, &listed.name, u64::MAX)?;
    let path = dir.join(DATABASE);
    let failed = || format!("cannot write {}", path.display());
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path).with_context(failed)?;
    let mut sink = Tee { file, mac: Mac::new(keyring, DATABASE) };
    archive::read_content(input, &header, &mut sink).context("the database in it ends early, or cannot be written")?;
    sink.mac.check(&listed.name, &listed.mac)?;
    sink.file.sync_all().with_context(failed)
}

/// Writes to a file and computes its MAC.
struct Tee {
    file: File,
    mac: Mac,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.mac.write_all(&bytes[..written])?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Checks the database, and begins its new epoch.
async fn finish(database: &Path, unpacked: &Unpacked) -> anyhow::Result<Restored> {
    let Unpacked { manifest, time, keyring, secrets } = unpacked;
    let url = format!("sqlite:{}", database.display());
    let store = Store::open(&url, chain_key(keyring)).await?;
    let restored = async {
        let Checked { head, entries, rows } = check(&store, keyring).await?;
        if head.revision.0 != manifest.revision {
            bail!("its manifest is of revision {}, and its database of revision {}", manifest.revision, head.revision);
        }
        // Validators of other processes may hold leases of the lost history, which the database does not know.
        record_external_leases(&store).await?;
        let has_credential = secrets.as_ref().is_some_and(|secrets| secrets.credential.is_some());
        let head = store.begin_epoch_after_restore().await?;
        let (time, revision) = (time.to_string(), manifest.revision);
        anyhow::Ok(Restored { time, revision, head, entries, rows, has_credential })
    };
    let restored = restored.await;
    store.close().await;
    // Closing folds the write-ahead log into the file. The rest of the log would be left behind with the new epoch in it.
    let log = database.with_extension("db-wal");
    if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        bail!("the restored database could not be closed: {} has changes that are not in it", log.display());
    }
    restored
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use keyward_domain::{Epoch, Revision, Uid};

    use super::*;
    use crate::backup::archive::Header;
    use crate::backup::manifest::{MANIFEST, MANIFEST_MAC, mac_of};

    const TIME: &str = "2026-11-28T12:00:00Z";

    /// A directory that is removed at the end.
    fn scratch() -> PartialDirectory {
        PartialDirectory::create(std::env::temp_dir().join(format!("keyward-restore-{}", Uid::generate()))).unwrap()
    }

    fn archive_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, content) in files {
            let header = Header { name: (*name).to_owned(), size: content.len() as u64 };
            archive::append(&mut out, &header, 1, &mut &**content).unwrap();
        }
        archive::finish(&mut out).unwrap();
        out
    }

    /// A backup with a text in the place of the database. `edit` changes the manifest, whose MAC `signer` computes.
    fn backup(keyring: &Keyring, signer: &Keyring, edit: impl FnOnce(String) -> String) -> Vec<u8> {
        let ring = keyring.render();
        let files = [(KEYRING, ring.as_bytes()), (CREDENTIAL, b"kwm_root"), (DATABASE, b"the database")];
        let listed = files.map(|(name, content)| Listed {
            name: name.to_owned(),
            size: content.len() as u64,
            mac: mac_of(keyring, name, content),
        });
        let head = Position { epoch: Epoch::generate(), revision: Revision(7), chain: [0; 32] };
        let manifest = Manifest::new(&head, TIME.parse().unwrap(), keyring, listed.into());
        let manifest = edit(serde_json::to_string_pretty(&manifest).unwrap());
        let mac = mac_of(signer, MANIFEST, manifest.as_bytes());
        let first: [(&str, &[u8]); 2] = [(MANIFEST, manifest.as_bytes()), (MANIFEST_MAC, mac.as_bytes())];
        archive_of(&[&first[..], &files[..]].concat())
    }

    fn read(archive: &[u8], dir: &Path) -> anyhow::Result<Unpacked> {
        let path = dir.join("backup");
        fs::write(&path, archive)?;
        let unpacked = unpack(File::open(path)?, dir, None);
        let _ = fs::remove_file(dir.join(DATABASE));
        unpacked
    }

    #[track_caller]
    fn refused(archive: &[u8], dir: &Path, why: &str) {
        let error = read(archive, dir).err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(error.contains(why), "{error:?} instead of {why:?}");
    }

    #[test]
    fn a_backup_with_any_flipped_bit_is_refused() {
        let (keyring, dir) = (Keyring::generate().unwrap(), scratch());
        let whole = backup(&keyring, &keyring, |manifest| manifest);
        let unpacked = read(&whole, dir.path()).unwrap();
        assert_eq!((unpacked.manifest.revision, unpacked.time.to_string().as_str()), (7, TIME));
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(read(&damaged, dir.path()).is_err(), "byte {at} of {}", whole.len());
        }
    }

    #[test]
    fn a_manifest_that_was_changed_is_refused() {
        let (keyring, other, dir) = (Keyring::generate().unwrap(), Keyring::generate().unwrap(), scratch());
        for (from, to) in [(TIME, "2027-11-28T12:00:00Z"), ("\"revision\": 7", "\"revision\": 8"), ("{", " {")] {
            let changed = backup(&keyring, &other, |manifest| manifest.replacen(from, to, 1));
            refused(&changed, dir.path(), "manifest.json is not as it was written");
        }
        let old = backup(&keyring, &keyring, |manifest| manifest.replace("\"format\": 2", "\"format\": 1"));
        refused(&old, dir.path(), "its format is 1, and this version of Keyward reads format 2");
    }

    /// A person who has the keyring can compute every MAC. The time is printed on a terminal.
    #[test]
    fn a_time_that_is_not_rfc_3339_is_refused_and_not_printed() {
        let (keyring, dir) = (Keyring::generate().unwrap(), scratch());
        for time in ["\\u001b[2J", "", "yesterday", "2026-11-28T12:00:00Z\\u001b[2J"] {
            let forged = backup(&keyring, &keyring, |manifest| manifest.replace(TIME, time));
            refused(&forged, dir.path(), "the time in its manifest is not RFC 3339");
            let error = format!("{:#}", read(&forged, dir.path()).err().unwrap());
            assert!(!error.contains('\u{1b}'), "{error:?}");
        }
    }
}
