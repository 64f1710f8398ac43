//! The first files of a backup: the manifest, which states what the backup is and what its other files must be, and the MAC of
//! the manifest.

use std::io::Write;

use anyhow::{Context, bail};
use keyward_domain::Position;
use keyward_token::{DigestKey, Keyring, context};
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};

/// The name of the manifest in a backup.
pub(super) const MANIFEST: &str = "manifest.json";
/// The name of the file with the MAC of the manifest: 64 hexadecimal digits.
pub(super) const MANIFEST_MAC: &str = "manifest.mac";
/// The name of the database, in a backup and in a data directory.
pub(super) const DATABASE: &str = "keyward.db";
/// The name of the keyring, in a backup and in a data directory.
pub(super) const KEYRING: &str = "keyring";
/// The name of the root credential, in a backup and in a data directory.
pub(super) const CREDENTIAL: &str = "root.credential";

/// The format that this version writes and reads. Format 1, which no release wrote, had no MAC of the manifest.
const FORMAT: u32 = 2;

/// What a backup is.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Manifest {
    /// 2. A version of Keyward refuses a format that it does not know.
    format: u32,
    /// The version of Keyward that wrote the backup.
    version: String,
    /// When the backup was made, RFC 3339.
    time: String,
    /// The epoch of the log.
    epoch: String,
    /// The newest revision of the log.
    pub(super) revision: i64,
    /// The fingerprint of the keyring that the database belongs to.
    fingerprint: String,
    /// The other files, in order.
    pub(super) files: Vec<Listed>,
}

/// A file as the manifest lists it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Listed {
    /// Its name.
    pub(super) name: String,
    /// Its size, in bytes.
    pub(super) size: u64,
    /// Keyed BLAKE3 over its name and its content, 64 hexadecimal digits.
    pub(super) mac: String,
}

impl Manifest {
    pub(super) fn new(head: &Position, time: Timestamp, keyring: &Keyring, files: Vec<Listed>) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: time.to_string(),
            epoch: head.epoch.to_string(),
            revision: head.revision.0,
            fingerprint: keyring.fingerprint(),
            files,
        }
    }

    pub(super) fn parse(text: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = serde_json::from_slice(text).context("its manifest cannot be read")?;
        if format != FORMAT {
            bail!("its format is {format}, and this version of Keyward reads format {FORMAT}");
        }
        serde_json::from_slice(text).context("its manifest cannot be read")
    }

    /// When the backup was made. The text is parsed: it may come from a file that an attacker wrote, and is printed on a
    /// terminal.
    pub(super) fn time(&self) -> anyhow::Result<Timestamp> {
        self.time.parse().context("the time in its manifest is not RFC 3339")
    }

    /// Checks that the keyring is the one of the backup.
    pub(super) fn check_keyring(&self, keyring: &Keyring) -> anyhow::Result<()> {
        if self.fingerprint == keyring.fingerprint() {
            return Ok(());
        }
        bail!("the keyring is not the one of the database in the backup")
    }

    /// The names of the other files, in order.
    pub(super) fn names(&self) -> Vec<&str> {
        self.files.iter().map(|file| file.name.as_str()).collect()
    }
}

/// The MAC of a whole text, as 64 hexadecimal digits.
pub(super) fn mac_of(keyring: &Keyring, name: &str, text: &[u8]) -> String {
    let mut mac = Mac::new(keyring, name);
    mac.0.update(text);
    mac.finish()
}

/// Fails if `mac` is not the MAC of the text of this file. `mac` must be spelled as [`mac_of`] spells it.
pub(super) fn check_mac(keyring: &Keyring, name: &str, text: &[u8], mac: &str) -> anyhow::Result<()> {
    let mut expected = Mac::new(keyring, name);
    expected.0.update(text);
    expected.check(name, mac)
}

/// Computes the MAC of a file while it is written or read.
pub(super) struct Mac(blake3::Hasher);

impl Mac {
    pub(super) fn new(keyring: &Keyring, name: &str) -> Self {
        let key: DigestKey = keyring.current_digest().derive(context::BACKUPS);
        let mut hasher = blake3::Hasher::new_keyed(key.expose());
        hasher.update(&(name.len() as u64).to_be_bytes()).update(name.as_bytes());
        Self(hasher)
    }

    pub(super) fn finish(&self) -> String {
        self.0.finalize().to_string()
    }

    /// Fails if `mac` is not the MAC of the content of the file `name`.
    pub(super) fn check(&self, name: &str, mac: &str) -> anyhow::Result<()> {
        let is_plain = mac.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        // blake3::Hash compares in constant time.
        if is_plain && blake3::Hash::from_hex(mac).is_ok_and(|mac| mac == self.0.finalize()) {
            return Ok(());
        }
        bail!("{name} is not as it was written: the backup is damaged, or was changed")
    }
}

impl Write for Mac {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
