//! The keyring: the long-lived secrets of a deployment as a small text. Reading and writing its file is the caller's
//! task.

use std::fmt;

use zeroize::Zeroizing;

use crate::digest::DigestKey;
use crate::entropy::EntropyError;
use crate::seal::SealingKey;

const HEADER: &str = "\
# Keyward keyring. SECRET: readable by the admin service alone (mode 0600), and backed up apart from the database.
# Losing it makes every token UNKNOWN: the database holds digests, which nothing can compute without these keys.
# One key a line: kind (digest or sealing), id, 64 hexadecimal digits. The last line of a kind is its current key.
# Without a sealing line tokens are shown once and never again.
";

/// The digest keys and sealing keys of a deployment, oldest first. The last key of each list is the current one.
///
/// There is at least one digest key. Without a sealing key, a token is returned once, when it is issued, and cannot be
/// revealed later. `Debug` prints only the ids.
pub struct Keyring {
    digest: Vec<DigestKey>,
    sealing: Vec<SealingKey>,
}

impl Keyring {
    /// Generates a keyring with one new key of each kind, both with id 1.
    ///
    /// # Errors
    /// [`EntropyError`] if the operating system provides no random bytes.
    pub fn generate() -> Result<Self, EntropyError> {
        Ok(Self { digest: vec![DigestKey::generate(1)?], sealing: vec![SealingKey::generate(1)?] })
    }

    /// Parses a keyring that [`render`](Self::render) wrote or a person edited.
    ///
    /// Each line has one key: `digest 1 <64 hex>` or `sealing 1 <64 hex>`. Ids are from 1 to 4294967295 and unique
    /// within their kind. Empty lines and lines that begin with `#` are ignored, and so is extra whitespace between
    /// words.
    ///
    /// # Errors
    /// [`KeyringError`] for the first invalid line. It contains the line number and nothing of the line.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        // Reserve space for every line: a vector that grows leaves a copy of its keys in freed memory, unwiped.
        let lines = text.lines().count();
        let mut ring = Self { digest: Vec::with_capacity(lines), sealing: Vec::with_capacity(lines) };
        for (line, content) in (1..).zip(text.lines()) {
            ring.read_line(line, content)?;
        }
        if ring.digest.is_empty() {
            return Err(KeyringError::NoDigestKey);
        }
        Ok(ring)
    }

    fn read_line(&mut self, line: usize, content: &str) -> Result<(), KeyringError> {
        let mut words = content.split_ascii_whitespace();
        match words.next() {
            None => Ok(()),
            Some(word) if word.starts_with('#') => Ok(()),
            Some("digest") => {
                let (id, key) = read_key(line, words)?;
                refuse_duplicate(line, id, self.digest.iter().map(DigestKey::id))?;
                self.digest.push(DigestKey::new(id, *key));
                Ok(())
            }
            Some("sealing") => {
                let (id, key) = read_key(line, words)?;
                refuse_duplicate(line, id, self.sealing.iter().map(SealingKey::id))?;
                self.sealing.push(SealingKey::new(id, *key));
                Ok(())
            }
            Some(_) => Err(KeyringError::UnknownKind { line }),
        }
    }

    /// Formats the keyring for [`parse`](Self::parse), with a comment at the top that explains the file. The text ends
    /// with a newline and is wiped from memory on drop.
    pub fn render(&self) -> Zeroizing<String> {
        // Reserve space for the whole text: a string that grows leaves a copy in freed memory, unwiped.
        const LONGEST_LINE: usize = "sealing 4294967295 \n".len() + 64;
        let lines = self.digest.len() + self.sealing.len();
        let mut text = Zeroizing::new(String::with_capacity(HEADER.len() + lines * LONGEST_LINE));
        text.push_str(HEADER);
        for key in &self.digest {
            write_key(&mut text, "digest", key.id(), key.expose());
        }
        for key in &self.sealing {
            write_key(&mut text, "sealing", key.id(), key.expose());
        }
        text
    }

    /// Computes a fingerprint that identifies the keyring and reveals nothing about its keys: 64 hexadecimal digits.
    ///
    /// BLAKE3 in key-derivation mode over kind, id and key of every digest key and then of every sealing key, in order.
    /// The fingerprint changes with any key, any id and the choice of the current keys. The database stores it, so that
    /// an admin with the wrong keyring refuses to start. When a key is added, the new fingerprint must be stored.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("keyward v1 keyring fingerprint");
        for key in &self.digest {
            hasher.update(b"d").update(&key.id().to_be_bytes()).update(key.expose());
        }
        for key in &self.sealing {
            hasher.update(b"s").update(&key.id().to_be_bytes()).update(key.expose());
        }
        hasher.finalize().to_string()
    }

    /// The digest key for new tokens.
    pub fn current_digest(&self) -> &DigestKey {
        // Never empty: the only constructors, `generate` and `parse`, ensure this.
        &self.digest[self.digest.len() - 1]
    }

    /// All digest keys, oldest first; the last one is current. Never empty.
    pub fn digest_keys(&self) -> &[DigestKey] {
        &self.digest
    }

    /// The sealing key for new tokens. `None` if the keyring has no sealing key, so that tokens cannot be revealed.
    pub fn current_sealing(&self) -> Option<&SealingKey> {
        self.sealing.last()
    }

    /// The sealing key with the given id, for opening tokens that it sealed. `None` if there is no such key.
    pub fn sealing(&self, id: u32) -> Option<&SealingKey> {
        self.sealing.iter().find(|key| key.id() == id)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("digest", &self.digest).field("sealing", &self.sealing).finish()
    }
}

/// Parses id and key: the words of a line after its kind.
fn read_key<'a>(
    line: usize,
    mut words: impl Iterator<Item = &'a str>,
) -> Result<(u32, Zeroizing<[u8; 32]>), KeyringError> {
    let (Some(id), Some(digits), None) = (words.next(), words.next(), words.next()) else {
        return Err(KeyringError::WrongShape { line });
    };
    let id = id.parse().ok().filter(|id| *id != 0).ok_or(KeyringError::BadId { line })?;
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits, key.as_mut_slice()).map_err(|_| KeyringError::BadKey { line })?;
    Ok((id, key))
}

fn refuse_duplicate(line: usize, id: u32, mut taken: impl Iterator<Item = u32>) -> Result<(), KeyringError> {
    if taken.any(|other| other == id) { Err(KeyringError::DuplicateId { line }) } else { Ok(()) }
}

fn write_key(text: &mut String, kind: &str, id: u32, key: &[u8; 32]) {
    text.extend([kind, " ", &id.to_string(), " "]);
    for byte in key {
        // Digit by digit: the encoders of `hex` return a new string, which would not be wiped.
        text.extend([byte >> 4, byte & 15].into_iter().filter_map(|digit| char::from_digit(digit.into(), 16)));
    }
    text.push('\n');
}

/// Why a text is not a keyring. Contains the line number, counted from 1, and nothing of the line.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyringError {
    /// A line begins with neither `digest`, `sealing` nor `#`.
    ///
    /// Likely cause: a file of another kind, or a keyring of a newer version.
    #[error("line {line} of the keyring begins with neither digest nor sealing")]
    UnknownKind {
        /// The line, counted from 1.
        line: usize,
    },
    /// A line does not consist of kind, id and key.
    ///
    /// Likely cause: an editor or copying has broken or truncated the line.
    #[error("line {line} of the keyring is not a kind, an id and a key")]
    WrongShape {
        /// The line, counted from 1.
        line: usize,
    },
    /// An id is not an integer from 1 to 4294967295.
    ///
    /// Likely cause: a line was edited by hand, and its id was omitted or swapped with the key.
    #[error("line {line} of the keyring has an id that is not a number from 1 to 4294967295")]
    BadId {
        /// The line, counted from 1.
        line: usize,
    },
    /// A key is not 64 hexadecimal digits.
    ///
    /// Likely cause: the line was truncated, or the key has another encoding.
    #[error("line {line} of the keyring has a key that is not 64 hexadecimal digits")]
    BadKey {
        /// The line, counted from 1.
        line: usize,
    },
    /// Two keys of the same kind have the same id.
    ///
    /// Likely cause: a line was copied to add a key, and its id was not incremented.
    #[error("line {line} of the keyring has an id that an earlier key of its kind has")]
    DuplicateId {
        /// The line of the second occurrence, counted from 1.
        line: usize,
    },
    /// There is no digest key, so no token could be recognized.
    ///
    /// Likely cause: an empty or truncated file, such as one written to a full disk.
    #[error("the keyring has no digest key")]
    NoDigestKey,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::testing::{self, counting};

    fn line(kind: &str, id: u32, key: [u8; 32]) -> String {
        format!("{kind} {id} {}\n", hex::encode(key))
    }

    fn fingerprint(text: &str) -> String {
        Keyring::parse(text).unwrap().fingerprint()
    }

    #[test]
    fn a_keyring_round_trips() {
        let ring = Keyring::generate().unwrap();
        let text = ring.render();
        let again = Keyring::parse(&text).unwrap();
        assert_eq!(*again.render(), *text);
        assert_eq!(again.fingerprint(), ring.fingerprint());
        assert_eq!(again.current_digest().id(), 1);
        assert_eq!(again.current_digest().expose(), ring.current_digest().expose());
        assert_eq!(again.current_sealing().unwrap().expose(), ring.current_sealing().unwrap().expose());
    }

    #[test]
    fn the_header_names_the_keyring_and_the_consequence_of_losing_it() {
        let text = Keyring::generate().unwrap().render();
        let (header, keys) = text.split_at(HEADER.len());
        assert!(header.lines().all(|line| line.starts_with('#')));
        assert!(header.contains("Keyward keyring"));
        assert!(header.contains("Losing it makes every token UNKNOWN"));
        assert_eq!(keys.lines().count(), 2);
        assert!(text.ends_with('\n'));
    }

    /// The capacity is reserved at once: a string that grows leaves a copy of a key in freed memory.
    #[test]
    fn rendering_never_outgrows_its_first_allocation() {
        let text: String = (0..9).map(|n| line("sealing", u32::MAX - n, counting(0))).collect();
        let ring = Keyring::parse(&(line("digest", u32::MAX, counting(0)) + &text)).unwrap();
        let longest = HEADER.len() + 10 * (64 + "sealing 4294967295 \n".len());
        let text = ring.render();
        assert!(text.len() <= longest);
        assert_eq!(text.capacity(), longest);
    }

    #[test]
    fn the_last_key_of_each_kind_is_current_and_older_ones_are_found() {
        let text = [
            line("sealing", 9, counting(0)),
            line("digest", 5, counting(1)),
            line("sealing", 2, counting(2)),
            line("digest", 3, counting(3)),
        ]
        .concat();
        let ring = Keyring::parse(&text).unwrap();
        assert_eq!(ring.current_digest().id(), 3);
        assert_eq!(ring.digest_keys().iter().map(DigestKey::id).collect::<Vec<_>>(), [5, 3]);
        assert_eq!(ring.current_sealing().unwrap().id(), 2);
        assert_eq!(ring.sealing(9).unwrap().expose(), &counting(0));
        assert!(ring.sealing(1).is_none());
    }

    #[test]
    fn a_keyring_without_sealing_key_has_no_current_sealing_key() {
        let ring = Keyring::parse(&line("digest", 1, counting(0))).unwrap();
        assert!(ring.current_sealing().is_none());
        assert!(ring.sealing(1).is_none());
    }

    #[test]
    fn comments_blank_lines_and_spacing_do_not_matter() {
        let key = hex::encode_upper(counting(0));
        let text = format!("\r\n# digest 1\r\n   #\r\n\t digest\t1   {key} \r\n\r\n");
        assert_eq!(fingerprint(&text), fingerprint(&line("digest", 1, counting(0))));
    }

    #[test]
    fn errors_contain_the_line_number_and_nothing_of_the_line() {
        let good = hex::encode(counting(0));
        let long = format!("{good}00");
        let (short, odd) = (&good[..62], &good[..63]);
        let cases = [
            (format!("secret 1 {good}"), KeyringError::UnknownKind { line: 3 }),
            (format!("Digest 1 {good}"), KeyringError::UnknownKind { line: 3 }),
            (good.clone(), KeyringError::UnknownKind { line: 3 }),
            ("digest".into(), KeyringError::WrongShape { line: 3 }),
            (format!("digest {good}"), KeyringError::WrongShape { line: 3 }),
            (format!("sealing 2 {good} {good}"), KeyringError::WrongShape { line: 3 }),
            (format!("digest 0 {good}"), KeyringError::BadId { line: 3 }),
            (format!("digest -2 {good}"), KeyringError::BadId { line: 3 }),
            (format!("digest 4294967296 {good}"), KeyringError::BadId { line: 3 }),
            (format!("digest {good} 2"), KeyringError::BadId { line: 3 }),
            (format!("digest 2 {short}"), KeyringError::BadKey { line: 3 }),
            (format!("digest 2 {odd}"), KeyringError::BadKey { line: 3 }),
            (format!("sealing 2 {long}"), KeyringError::BadKey { line: 3 }),
            (format!("sealing 2 {odd}g"), KeyringError::BadKey { line: 3 }),
            (format!("digest 1 {good}"), KeyringError::DuplicateId { line: 3 }),
        ];
        for (bad, expected) in cases {
            let text = format!("# a comment\ndigest 1 {good}\n{bad}\n");
            let error = Keyring::parse(&text).unwrap_err();
            assert_eq!(error, expected, "{bad}");
            assert!(error.to_string().contains("line 3"), "{error}");
            testing::assert_hides(&format!("{error:?} {error}"), &[&good, &long]);
        }
        let twice = format!("sealing 1 {good}\nsealing 1 {good}\ndigest 1 {good}\n");
        assert_eq!(Keyring::parse(&twice).unwrap_err(), KeyringError::DuplicateId { line: 2 });
    }

    #[test]
    fn a_keyring_without_digest_key_is_refused() {
        for text in ["", "# Keyward keyring\n", &line("sealing", 1, counting(0))] {
            assert_eq!(Keyring::parse(text).unwrap_err(), KeyringError::NoDigestKey);
        }
    }

    #[test]
    fn arbitrary_text_never_panics() {
        let (seed, mut random) = testing::random_bytes();
        println!("seed {seed}");
        let good = Keyring::generate().unwrap().render();
        for _ in 0..10_000 {
            let mut change = [0; 4];
            random.fill(&mut change);
            let mut bytes = good.as_bytes().to_vec();
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
            bytes[at] = change[2];
            bytes.truncate(bytes.len() - usize::from(change[3]) / 2);
            let _ = Keyring::parse(&String::from_utf8_lossy(&bytes));
        }
    }

    /// The test vector was computed with the blake3 package for Python.
    #[test]
    fn the_fingerprint_equals_the_golden_one() {
        let text = line("digest", 1, counting(0)) + &line("sealing", 1, counting(32));
        assert_eq!(fingerprint(&text), "27f026099e33b894275bcb5f7daab6a616f8da069d407e8aa5fd1d115da12e7c");
    }

    #[test]
    fn the_fingerprint_changes_with_every_key_id_kind_and_order() {
        let (a, b, c) = (counting(0), counting(1), counting(2));
        let mut fingerprints = vec![
            fingerprint(&line("digest", 1, a)),
            fingerprint(&line("digest", 2, a)),
            fingerprint(&line("digest", 1, b)),
            fingerprint(&(line("digest", 1, a) + &line("digest", 2, b))),
            fingerprint(&(line("digest", 2, b) + &line("digest", 1, a))),
            fingerprint(&(line("digest", 1, a) + &line("digest", 2, c))),
            fingerprint(&(line("digest", 1, a) + &line("sealing", 2, b))),
            fingerprint(&(line("digest", 1, a) + &line("sealing", 2, c))),
            fingerprint(&(line("digest", 1, a) + &line("sealing", 1, b))),
        ];
        let count = fingerprints.len();
        fingerprints.sort_unstable();
        fingerprints.dedup();
        assert_eq!(fingerprints.len(), count);
    }

    #[test]
    fn the_fingerprint_does_not_depend_on_how_kinds_are_interleaved() {
        let (digest, sealing) = (line("digest", 1, counting(0)), line("sealing", 1, counting(1)));
        assert_eq!(fingerprint(&(digest.clone() + &sealing)), fingerprint(&(sealing + &digest)));
    }

    #[test]
    fn debug_and_fingerprint_show_no_key() {
        let ring = Keyring::generate().unwrap();
        assert!(format!("{ring:?}").contains("DigestKey { id: 1, .. }"));
        let shown = format!("{ring:?} {ring:#?} {}", ring.fingerprint());
        for key in [ring.current_digest().expose(), ring.current_sealing().unwrap().expose()] {
            testing::assert_hides(&shown, &testing::spellings(key).each_ref().map(|s| &**s));
        }
    }
}
