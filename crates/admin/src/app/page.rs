use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward_domain::{Error, Revision};
use keyward_token::DigestKey;

const DEFAULT_SIZE: u64 = 50;
const MAX_SIZE: u64 = 1000;
const MAC_LEN: usize = 16;

/// Largest encoded size of a page's items, in bytes: 1 MiB. gRPC clients accept answers of up to 4 MiB by default. A page ends
/// early if its next item would exceed this size (AIP-158), and has one item at least.
const MAX_BYTES: usize = 1 << 20;

/// What an item in a repeated field adds to its own encoded size, in bytes: at most one byte for the field and five for the
/// length.
const ITEM_OVERHEAD: usize = 6;

/// The page of a list that a request asks for (AIP-158).
#[derive(Clone, Debug)]
pub(crate) struct PageRequest {
    pub(crate) size: i32,
    pub(crate) token: String,
}

/// The items of a page, before [`Page::fit`] limits their encoded size.
#[derive(Debug)]
pub(crate) struct Page<'a, T> {
    items: Vec<T>,
    /// Where the list continues after `items`; `None` if it ends there.
    rest: Option<Revision>,
    /// The place of an item in the list.
    at: fn(&T) -> Revision,
    key: &'a DigestKey,
    list: String,
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

impl<T> Page<'_, T> {
    /// Makes a page without a next one continue at `rest`, for a list whose search was stopped there.
    pub(super) fn or_from(mut self, rest: Option<Revision>) -> Self {
        self.rest = self.rest.or(rest);
        self
    }

    /// Renders items with `render` until their encoded size, which `size` returns in bytes, would exceed 1 MiB. Returns the
    /// rendered items and the token of the next page, which is empty on the last one.
    pub(crate) fn fit<M>(self, render: impl Fn(&T) -> M, size: impl Fn(&M) -> usize) -> (Vec<M>, String) {
        let Self { items, mut rest, at, key, list } = self;
        let (mut rendered, mut bytes, mut last) = (Vec::with_capacity(items.len()), 0_usize, None);
        for item in &items {
            let message = render(item);
            bytes = bytes.saturating_add(size(&message)).saturating_add(ITEM_OVERHEAD);
            if bytes > MAX_BYTES && !rendered.is_empty() {
                rest = last;
                break;
            }
            rendered.push(message);
            last = Some(at(item));
        }
        (rendered, rest.map(|rest| seal(key, &list, rest)).unwrap_or_default())
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
        list: impl Into<String>,
        mut items: Vec<T>,
        at: fn(&T) -> Revision,
    ) -> Page<'_, T> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let continues = items.len() > size;
        items.truncate(size);
        let rest = items.last().filter(|_| continues).map(at);
        Page { items, rest, at, key, list: list.into() }
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
    #![expect(clippy::unwrap_used, reason = "tests")]
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

    /// Walks a list of items with these encoded sizes, page by page. Returns the sizes of each page.
    fn walk(sizes: &[usize], page_size: i32) -> Vec<Vec<usize>> {
        let key = DigestKey::new(1, [3; 32]);
        let items: Vec<_> = (1..).zip(sizes.iter().copied()).collect();
        let (mut pages, mut token) = (Vec::new(), String::new());
        loop {
            let window = PageRequest { size: page_size, token }.window(&key, "l").unwrap();
            let rest = items.iter().filter(|(at, _)| Revision(*at) > window.after);
            let read = rest.take(usize::try_from(window.limit()).unwrap()).copied().collect();
            let (page, next) =
                window.page(&key, "l", read, |(at, _)| Revision(*at)).fit(|(_, size)| *size, |size| *size);
            pages.push(page);
            if next.is_empty() {
                return pages;
            }
            token = next;
        }
    }

    #[test]
    fn a_page_ends_before_the_item_that_exceeds_its_size_and_has_one_item_at_least() {
        let half = MAX_BYTES / 2 - ITEM_OVERHEAD;
        assert_eq!(walk(&[half, half], 0), [[half, half]]);
        assert_eq!(walk(&[half, half + 1], 0), [[half], [half + 1]]);
        assert_eq!(walk(&[1, 2 * MAX_BYTES, 2], 0), [[1], [2 * MAX_BYTES], [2]]);
        assert_eq!(walk(&[2 * MAX_BYTES], 0), [[2 * MAX_BYTES]]);
        assert_eq!(walk(&[1, 2, 3], 2), [vec![1, 2], vec![3]]);
        assert_eq!(walk(&[], 0), [[]] as [[usize; 0]; 1]);
        let all: Vec<_> = (0..2_000).map(|n| n * 97 % 70_000).collect();
        let pages = walk(&all, 1_000);
        assert_eq!(pages.concat(), all);
        assert!(pages.iter().all(|page| page.iter().map(|size| size + ITEM_OVERHEAD).sum::<usize>() <= MAX_BYTES));
    }

    #[test]
    fn page_sizes_are_coerced_as_in_aip_158() {
        let key = DigestKey::new(1, [3; 32]);
        let window = |size| PageRequest { size, token: String::new() }.window(&key, "l").map(|w| w.size);
        assert_eq!((window(0), window(7), window(5_000)), (Ok(50), Ok(7), Ok(1_000)));
        assert!(window(-1).is_err());
    }
}
