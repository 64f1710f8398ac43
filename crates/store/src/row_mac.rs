//! MACs of rows: keyed BLAKE3 over every column of a row, under a key that is derived from the keyring for this purpose.
//!
//! A writer with access to the database and without the keyring cannot compute the MAC of a row that Keyward did not write.

use keyward_token::DigestKey;

/// A row with a MAC in one of its columns.
pub(crate) trait Authentic {
    /// Name of the table. It keeps the MACs of two tables apart.
    const TABLE: &'static str;

    /// Adds every column except the MAC, always in the same order.
    fn columns(&self, input: &mut MacInput);

    /// The column with the MAC. `None` in a row that a version before 2026-11-28 wrote.
    fn stored_mac(&self) -> Option<&[u8]>;

    /// The MAC over the columns.
    fn mac(&self, key: &DigestKey) -> [u8; 32] {
        let mut input = MacInput(blake3::Hasher::new_keyed(key.expose()));
        input.text(Self::TABLE);
        self.columns(&mut input);
        *input.0.finalize().as_bytes()
    }

    /// Returns `true` if the stored MAC is the one over the columns.
    fn is_authentic(&self, key: &DigestKey) -> bool {
        let stored = self.stored_mac().and_then(|mac| <[u8; 32]>::try_from(mac).ok());
        // blake3::Hash compares in constant time.
        stored.is_some_and(|mac| blake3::Hash::from_bytes(mac) == blake3::Hash::from_bytes(self.mac(key)))
    }
}

/// The input of a MAC. Each column is preceded by its length, so that no two rows have the same input.
pub(crate) struct MacInput(blake3::Hasher);

impl MacInput {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_be_bytes()).update(bytes);
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn number(&mut self, number: impl Into<i64>) -> &mut Self {
        self.0.update(&number.into().to_be_bytes());
        self
    }

    /// A column that may be NULL.
    pub(crate) fn optional<T>(&mut self, value: Option<T>, add: impl FnOnce(&mut Self, T) -> &mut Self) -> &mut Self {
        self.0.update(&[u8::from(value.is_some())]);
        match value {
            Some(value) => add(self, value),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Row {
        one: &'static str,
        other: Option<&'static str>,
        number: i64,
        mac: Option<Vec<u8>>,
    }

    impl Authentic for Row {
        const TABLE: &'static str = "row";

        fn columns(&self, input: &mut MacInput) {
            input.text(self.one).optional(self.other, MacInput::text).number(self.number);
        }

        fn stored_mac(&self) -> Option<&[u8]> {
            self.mac.as_deref()
        }
    }

    #[test]
    fn a_row_is_authentic_only_with_the_mac_over_its_own_columns() {
        let key = DigestKey::new(1, [7; 32]);
        let row = Row { one: "ab", other: Some("c"), number: 3, mac: None };
        assert!(!row.is_authentic(&key), "without a MAC");
        let mac = Some(row.mac(&key).to_vec());
        let row = Row { mac: mac.clone(), ..row };
        assert!(row.is_authentic(&key));
        assert!(!row.is_authentic(&DigestKey::new(1, [8; 32])), "under another key");
        for other in [
            Row { one: "a", other: Some("bc"), ..row.clone() },
            Row { other: None, ..row.clone() },
            Row { other: Some(""), ..row.clone() },
            Row { number: 4, ..row.clone() },
            Row { mac: Some(vec![0; 32]), ..row.clone() },
            Row { mac: mac.map(|mac| mac[..31].to_vec()), ..row },
        ] {
            assert!(!other.is_authentic(&key));
        }
    }
}
