use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, bail};
use keyward_domain::Position;
use keyward_runtime::secret_file::{self, Holds};
use keyward_store::Store;
use keyward_token::Keyring;
use zeroize::Zeroizing;

use crate::backup::archive::{self, Header};
use crate::backup::check::{Checked, check};
use crate::backup::manifest::{CREDENTIAL, DATABASE, KEYRING, Listed, MANIFEST, MANIFEST_MAC, Mac, Manifest, mac_of};
use crate::backup::partial::PartialFile;
use crate::backup::read::{Unverified, expect};
use crate::files::{check_data_dir, directory, read_keyring};
use crate::secrets::chain_key;

/// Where the secrets of a data directory are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BackupSecrets {
    /// In the backup: the keyring, and the root credential if the data directory has it.
    Inside,
    /// Apart from the backup.
    Apart,
}

/// The result of [`back_up`].
#[derive(Clone, Debug)]
pub struct BackedUp {
    /// The end of the log in the backup.
    pub head: Position,
    /// The number of log entries that were checked.
    pub entries: u64,
    /// The number of rows that were checked.
    pub rows: u64,
    /// The size of the backup, in bytes.
    pub bytes: u64,
    /// The names of the files in the backup.
    pub files: Vec<String>,
}

/// Writes a backup of a data directory to the new file `file`, with mode 0600. `keyward serve` may run on the directory: the
/// backup shows the database as of one moment. The copy of the database is checked before it goes into the file (structure,
/// indexes, chain, head, every row), and the file is read back.
///
/// # Errors
/// `file` exists; the directory has no database or no keyring; the database is not intact; the disk fails. No file is left.
pub async fn back_up(data_dir: &Path, file: &Path, secrets: BackupSecrets) -> anyhow::Result<BackedUp> {
    let database = data_dir.join(DATABASE);
    if !database.is_file() {
        bail!("{} has no database of `keyward serve`", data_dir.display());
    }
    check_data_dir(data_dir)?;
    if file.symlink_metadata().is_ok() {
        bail!("{} exists already, and a backup never replaces a file", file.display());
    }
    let keyring = data_dir.join(KEYRING);
    let keyring = read_keyring(&keyring)?.with_context(|| format!("{} is missing", keyring.display()))?;
    let copy = PartialFile::beside(file)?;
    let failed = || format!("cannot back up {}", database.display());
    Store::copy_sqlite(&database, copy.path()).await.with_context(failed)?;
    let store = Store::open_copy(copy.path(), chain_key(&keyring)).await.with_context(failed)?;
    let checked = check(&store, &keyring).await;
    store.close().await;
    let checked = checked.with_context(failed)?;
    let credential = match secrets {
        BackupSecrets::Inside => read_credential(&data_dir.join(CREDENTIAL))?,
        BackupSecrets::Apart => None,
    };
    let contents = Contents { keyring: &keyring, secrets, credential, database: &copy.file };
    let (archive, manifest) = contents.write(file, &checked)?;
    read_back(&archive.file, &keyring).context("the backup cannot be read back")?;
    let bytes = archive.file.metadata()?.len();
    archive.persist(file)?;
    File::open(directory(file))
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("cannot write {}", file.display()))?;
    let Checked { head, entries, rows } = checked;
    Ok(BackedUp { head, entries, rows, bytes, files: manifest.names().into_iter().map(str::to_owned).collect() })
}

fn read_credential(path: &Path) -> anyhow::Result<Option<Zeroizing<String>>> {
    match secret_file::read_logged(path, Holds::Secret) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What goes into a backup.
struct Contents<'a> {
    keyring: &'a Keyring,
    secrets: BackupSecrets,
    credential: Option<Zeroizing<String>>,
    database: &'a File,
}

impl Contents<'_> {
    /// Writes the archive beside `target`.
    fn write(&self, target: &Path, checked: &Checked) -> anyhow::Result<(PartialFile, Manifest)> {
        let now = SystemTime::now();
        let keyring = self.keyring.render();
        let mut texts = Vec::new();
        if self.secrets == BackupSecrets::Inside {
            texts.push((KEYRING, keyring.as_bytes()));
        }
        texts.extend(self.credential.as_ref().map(|text| (CREDENTIAL, text.as_bytes())));
        let mut files = Vec::new();
        for (name, text) in &texts {
            files.push(self.list(name, &mut &**text)?);
        }
        files.push(self.list(DATABASE, &mut from_start(self.database)?)?);
        let manifest = Manifest::new(&checked.head, now.into(), self.keyring, files);

        let archive = PartialFile::beside(target)?;
        let failed = || format!("cannot write {}", target.display());
        let mut out = BufWriter::new(&archive.file);
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let text = serde_json::to_vec_pretty(&manifest)?;
        let mut append = |name: &str, size: u64, content: &mut dyn Read| {
            let header = Header { name: name.to_owned(), size };
            archive::append(&mut out, &header, seconds, &mut { content })
        };
        append(MANIFEST, text.len() as u64, &mut &*text).with_context(failed)?;
        let mac = mac_of(self.keyring, MANIFEST, &text);
        append(MANIFEST_MAC, mac.len() as u64, &mut mac.as_bytes()).with_context(failed)?;
        for (name, text) in &texts {
            append(name, text.len() as u64, &mut &**text).with_context(failed)?;
        }
        let size = self.database.metadata()?.len();
        append(DATABASE, size, &mut from_start(self.database)?).with_context(failed)?;
        archive::finish(&mut out).and_then(|()| out.flush()).with_context(failed)?;
        drop(out);
        archive.file.sync_all().with_context(failed)?;
        Ok((archive, manifest))
    }

    fn list(&self, name: &str, content: &mut impl Read) -> anyhow::Result<Listed> {
        let mut mac = Mac::new(self.keyring, name);
        let size = io::copy(content, &mut mac)?;
        Ok(Listed { name: name.to_owned(), size, mac: mac.finish() })
    }
}

/// A reader of the whole file.
fn from_start(mut file: &File) -> io::Result<BufReader<&File>> {
    file.seek(SeekFrom::Start(0))?;
    Ok(BufReader::with_capacity(1 << 16, file))
}

/// Reads an archive as a restore does, and compares its files with its manifest.
fn read_back(archive: &File, keyring: &Keyring) -> anyhow::Result<()> {
    let mut input = from_start(archive)?;
    for listed in &Unverified::read(&mut input)?.verified(keyring)?.files {
        let header = expect(&mut input, &listed.name, u64::MAX)?;
        let mut mac = Mac::new(keyring, &listed.name);
        archive::read_content(&mut input, &header, &mut mac)?;
        mac.check(&listed.name, &listed.mac)?;
    }
    if archive::next(&mut input)?.is_some() {
        bail!("it has more files than it should");
    }
    Ok(())
}
