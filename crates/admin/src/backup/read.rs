//! Reading a backup from its beginning.

use std::io::Read;

use anyhow::{Context, bail};
use keyward_token::Keyring;
use zeroize::Zeroizing;

use crate::backup::archive::{self, Header};
use crate::backup::manifest::{MANIFEST, MANIFEST_MAC, Manifest, check_mac};

/// The largest manifest, in bytes.
const LARGEST_MANIFEST: u64 = 1 << 16;

/// The size of the MAC of the manifest, in bytes.
const MAC_SIZE: u64 = 64;

/// A manifest as it was read. Which keyring verifies it depends on its content.
pub(super) struct Unverified {
    manifest: Manifest,
    text: Zeroizing<String>,
    mac: Zeroizing<String>,
}

impl Unverified {
    /// Reads the first files of a backup.
    pub(super) fn read(input: &mut impl Read) -> anyhow::Result<Self> {
        let what = "it is not a backup of Keyward, or is damaged";
        let text = text_of(input, MANIFEST, LARGEST_MANIFEST).context(what)?;
        // First, because another format may have other files here.
        let manifest = Manifest::parse(text.as_bytes())?;
        let mac = text_of(input, MANIFEST_MAC, MAC_SIZE).context(what)?;
        Ok(Self { manifest, text, mac })
    }

    /// The names of the other files, in order, as the manifest states them.
    pub(super) fn names(&self) -> Vec<&str> {
        self.manifest.names()
    }

    /// The manifest, if this keyring is the one of the backup and the MAC is the one of the manifest.
    pub(super) fn verified(self, keyring: &Keyring) -> anyhow::Result<Manifest> {
        self.manifest.check_keyring(keyring)?;
        check_mac(keyring, MANIFEST, self.text.as_bytes(), &self.mac)?;
        Ok(self.manifest)
    }
}

/// Reads the next file, which must have this name and be text.
pub(super) fn text_of(input: &mut impl Read, name: &str, largest: u64) -> anyhow::Result<Zeroizing<String>> {
    let header = expect(input, name, largest)?;
    // Reserve space for the whole text: a buffer that grows leaves a copy in freed memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(header.size)?));
    archive::read_content(input, &header, &mut *bytes)?;
    let text = str::from_utf8(&bytes).with_context(|| format!("{name} is not text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reads the header of the next file, which must have this name.
pub(super) fn expect(input: &mut impl Read, name: &str, largest: u64) -> anyhow::Result<Header> {
    match archive::next(input)? {
        Some(header) if header.name == name && header.size <= largest => Ok(header),
        Some(header) => bail!("it has the file {:?} of {} bytes in the place of {name}", header.name, header.size),
        None => bail!("it lacks {name}"),
    }
}
