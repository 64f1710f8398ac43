use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use keyward_domain::Position;
use keyward_store::Store;
use keyward_token::Keyring;
use zeroize::Zeroizing;

use crate::backup::archive::{self, Header};
use crate::backup::check::{Checked, check};
use crate::backup::manifest::{CREDENTIAL, DATABASE, KEYRING, LARGEST, Listed, MANIFEST, Mac, Manifest};
use crate::backup::partial::PartialDirectory;
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
    fs::rename(work.path().join(DATABASE), name(DATABASE)).with_context(failed)?;
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
    let manifest = text_of(&mut input, MANIFEST, LARGEST).context("it is not a backup of Keyward, or is damaged")?;
    let manifest = Manifest::parse(manifest.as_bytes())?;
    let has_secrets = manifest.files.first().is_some_and(|file| file.name == KEYRING);
    if !matches!(manifest.names()[..], [DATABASE] | [KEYRING, DATABASE] | [KEYRING, CREDENTIAL, DATABASE]) {
        bail!("its manifest lists other files than a backup has");
    }
    let inside = if has_secrets { Some(text_of(&mut input, KEYRING, LARGEST_SECRET)?) } else { None };
    let ring = match (&inside, keyring) {
        (Some(text), None) => Keyring::parse(text).context("its keyring cannot be read")?,
        (None, Some(path)) => read_keyring(path)?.with_context(|| format!("{} is missing", path.display()))?,
        (Some(_), Some(_)) => bail!("it has its keyring inside, so --keyring must not be given"),
        (None, None) => bail!("it was made with --without-keyring: give its keyring by --keyring FILE"),
    };
    manifest.check_keyring(&ring)?;
    let mut credential = None;
    for listed in &manifest.files {
        match listed.name.as_str() {
            KEYRING => check_text(&ring, listed, inside.as_deref().map_or("", String::as_str))?,
            CREDENTIAL => {
                let text = text_of(&mut input, CREDENTIAL, LARGEST_SECRET)?;
                check_text(&ring, listed, &text)?;
                credential = Some(text);
            }
            _ => unpack_database(&mut input, &ring, listed, dir)?,
        }
    }
    if archive::next(&mut input)?.is_some() {
        bail!("it has more files than its manifest lists");
    }
    Ok(Unpacked { manifest, keyring: ring, secrets: has_secrets.then_some(Secrets { credential }) })
}

fn unpack_database(input: &mut impl Read, keyring: &Keyring, listed: &Listed, dir: &Path) -> anyhow::Result<()> {
    let header = expect(input, &listed.name, u64::MAX)?;
    let path = dir.join(DATABASE);
    let failed = || format!("cannot write {}", path.display());
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path).with_context(failed)?;
    let mut sink = Tee { file, mac: Mac::new(keyring, DATABASE) };
    archive::read_content(input, &header, &mut sink).context("the database in it ends early, or cannot be written")?;
    sink.mac.check(listed)?;
    sink.file.sync_all().with_context(failed)
}

fn check_text(keyring: &Keyring, listed: &Listed, text: &str) -> anyhow::Result<()> {
    let mut mac = Mac::new(keyring, &listed.name);
    mac.write_all(text.as_bytes())?;
    mac.check(listed)
}

/// Reads the next file, which must have this name.
fn text_of(input: &mut impl Read, name: &str, largest: u64) -> anyhow::Result<Zeroizing<String>> {
    let header = expect(input, name, largest)?;
    // Reserve space for the whole text: a buffer that grows leaves a copy in freed memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(header.size)?));
    archive::read_content(input, &header, &mut *bytes)?;
    let text = str::from_utf8(&bytes).with_context(|| format!("{name} is not text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn expect(input: &mut impl Read, name: &str, largest: u64) -> anyhow::Result<Header> {
    match archive::next(input)? {
        Some(header) if header.name == name && header.size <= largest => Ok(header),
        Some(header) => bail!("it has the file {:?} of {} bytes in the place of {name}", header.name, header.size),
        None => bail!("it lacks {name}"),
    }
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
    let Unpacked { manifest, keyring, secrets } = unpacked;
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
        let (time, revision) = (manifest.time.clone(), manifest.revision);
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
