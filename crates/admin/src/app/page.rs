use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward_domain::{Error, Revision};
use keyward_token::DigestKey;

const DEFAULT_SIZE: u64 = 50;
const MAX_SIZE: u64 = 1000;
const MAC_LEN: usize = 16;

/// The page of a list that a request asks for (AIP-158).
#[derive(Clone, Debug)]
pub(crate) struct PageRequest {
    pub(crate) size: i32,
    pub(crate) token: String,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// Token of the next page; empty on the last one.
    pub(crate) next: String,
}

/// A checked page request: `size` items after the item with the revision `after`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) after: Revision,
    size: u64,
}

impl PageRequest {
    /// Checks the request. `list` names the list that the token must have been issued for, with its parent and filter, such
    /// as `keys of projects/6666 where `.
    ///
    /// # Errors
    /// `FIELD_INVALID` for a negative size, `PAGE_TOKEN_INVALID`.
    pub(super) fn window(&self, key: &DigestKey, list: &str) -> Result<Window, Error> {
        let size = match u64::try_from(self.size) {
            Err(_) => return Err(Error::field("page_size", "0 (50 items) or more; above 1000 counts as 1000")),
            Ok(0) => DEFAULT_SIZE,
            Ok(size) => size.min(MAX_SIZE),
        };
        let after = if self.token.is_empty() { Revision(0) } else { open(key, list, &self.token)? };
        Ok(Window { after, size })
    }
}

impl<T> Page<T> {
    /// Makes a page without a next one continue at `rest`, for a list whose search was stopped there.
    pub(super) fn or_from(mut self, key: &DigestKey, list: &str, rest: Option<Revision>) -> Self {
        if let (true, Some(rest)) = (self.next.is_empty(), rest) {
            self.next = seal(key, list, rest);
        }
        self
    }
}

impl Window {
    /// For lists with the newest first: the revision that the page begins before; `None` for the first page.
    pub(super) fn before(self) -> Option<Revision> {
        (self.after > Revision(0)).then_some(self.after)
    }

    /// How many items to read: one more than the page has, which shows if there is a next one.
    pub(super) const fn limit(self) -> u64 {
        self.size + 1
    }

    /// Makes a page of the items that were read.
    pub(super) fn page<T>(
        self,
        key: &DigestKey,
        list: &str,
        mut items: Vec<T>,
        at: impl Fn(&T) -> Revision,
    ) -> Page<T> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if items.len() <= size {
            return Page { items, next: String::new() };
        }
        items.truncate(size);
        let next = items.last().map(|last| seal(key, list, at(last))).unwrap_or_default();
        Page { items, next }
    }
}

/// Makes a page token: base64url of the revision (big endian) and 16 bytes of a keyed hash over revision and list. The hash
/// binds the token to its list and prevents forgery.
fn seal(key: &DigestKey, list: &str, after: Revision) -> String {
    let mut bytes = after.0.to_be_bytes().to_vec();
    bytes.extend_from_slice(&mac(key, list, after));
    URL_SAFE_NO_PAD.encode(bytes)
}

fn open(key: &DigestKey, list: &str, token: &str) -> Result<Revision, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Error::page_token_invalid())?;
    let (revision, presented) = bytes.split_first_chunk::<8>().ok_or_else(Error::page_token_invalid)?;
    let revision = Revision(i64::from_be_bytes(*revision));
    if presented != mac(key, list, revision) {
        return Err(Error::page_token_invalid());
    }
    Ok(revision)
}

fn mac(key: &DigestKey, list: &str, after: Revision) -> [u8; MAC_LEN] {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    hasher.update(&after.0.to_be_bytes()).update(list.as_bytes());
    let mut mac = [0; MAC_LEN];
    hasher.finalize_xof().fill(&mut mac);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_is_valid_for_its_own_list_only() {
        let key = DigestKey::new(1, [3; 32]);
        let token = seal(&key, "keys of projects/6666", Revision(42));
        assert_eq!(open(&key, "keys of projects/6666", &token), Ok(Revision(42)));
        assert!(open(&key, "keys of projects/7777", &token).is_err());
        assert!(open(&DigestKey::new(1, [4; 32]), "keys of projects/6666", &token).is_err());
        for bad in ["", "!", "AAAA", &token[1..], &format!("{token}A")] {
            assert!(open(&key, "keys of projects/6666", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn page_sizes_are_coerced_as_in_aip_158() {
        let key = DigestKey::new(1, [3; 32]);
        let window = |size| PageRequest { size, token: String::new() }.window(&key, "l").map(|w| w.size);
        assert_eq!((window(0), window(7), window(5_000)), (Ok(50), Ok(7), Ok(1_000)));
        assert!(window(-1).is_err());
    }
}
