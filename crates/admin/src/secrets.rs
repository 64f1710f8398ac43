use std::sync::Arc;

use keyward_domain::{Error, Uid};
use keyward_store::{SealedSecret, SecretRecord};
use keyward_token::{DigestKey, Keyring, SealError, Token, TokenFormat, TokenKind, context};

/// The keys that are derived from the keyring, one for each purpose.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    format: TokenFormat,
    keyring: Arc<Keyring>,
    /// Digest keys of tokens, oldest first. Validators get them too.
    token_keys: Vec<DigestKey>,
    /// Digest keys of members' credentials, oldest first.
    credential_keys: Vec<DigestKey>,
    page_key: DigestKey,
}

/// The key of the change log's hash chain.
pub(crate) fn chain_key(keyring: &Keyring) -> DigestKey {
    keyring.current_digest().derive(context::AUDIT_CHAIN)
}

impl Secrets {
    pub(crate) fn new(format: TokenFormat, keyring: Keyring) -> Self {
        let derive = |purpose| keyring.digest_keys().iter().map(|key| key.derive(purpose)).collect();
        Self {
            format,
            token_keys: derive(context::TOKEN_DIGESTS),
            credential_keys: derive(context::MEMBER_CREDENTIALS),
            page_key: keyring.current_digest().derive(context::PAGE_TOKENS),
            keyring: Arc::new(keyring),
        }
    }

    pub(crate) const fn format(&self) -> &TokenFormat {
        &self.format
    }

    pub(crate) fn token_keys(&self) -> &[DigestKey] {
        &self.token_keys
    }

    pub(crate) const fn page_key(&self) -> &DigestKey {
        &self.page_key
    }

    /// The digests that a presented credential may be stored under, the newest key's first; empty if the text is not a
    /// credential.
    pub(crate) fn credential_digests(&self, text: &str) -> Vec<keyward_token::Digest> {
        match self.format.parse(text) {
            Ok(parsed) if parsed.kind() == TokenKind::Member => {
                self.credential_keys.iter().rev().map(|key| key.digest(parsed)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The digests that a key's token may be stored under, the newest key's first; `None` if the text is not a token.
    pub(crate) fn token_digests(&self, text: &str) -> Option<Vec<keyward_token::Digest>> {
        let parsed = self.format.parse(text).ok().filter(|parsed| parsed.kind() != TokenKind::Member)?;
        Some(self.token_keys.iter().rev().map(|key| key.digest(parsed)).collect())
    }

    /// A new token for a new key or member, and what the store keeps of it.
    pub(crate) fn mint(&self, kind: TokenKind) -> Result<(Token, SecretRecord), Error> {
        self.mint_for(kind, Uid::generate())
    }

    /// A new token for the existing key or member with this uid, and what the store keeps of it.
    pub(crate) fn mint_for(&self, kind: TokenKind, uid: Uid) -> Result<(Token, SecretRecord), Error> {
        let token = Token::generate(&self.format, kind).map_err(|e| Error::internal(e.to_string()))?;
        let mint = self.trace(&token, uid)?;
        Ok((token, mint))
    }

    /// What the store keeps of a token of the key or member with this uid.
    pub(crate) fn trace(&self, token: &Token, uid: Uid) -> Result<SecretRecord, Error> {
        let keys = if token.kind() == TokenKind::Member { &self.credential_keys } else { &self.token_keys };
        let key = keys.last().ok_or_else(|| Error::internal("the keyring has no digest key"))?;
        Ok(SecretRecord {
            uid,
            digest: key.digest(token.parsed()),
            digest_key_id: key.id(),
            last4: token.last4().to_owned(),
            sealed: self.seal(token, uid)?,
        })
    }

    fn seal(&self, token: &Token, uid: Uid) -> Result<Option<SealedSecret>, Error> {
        let Some(key) = self.keyring.current_sealing() else { return Ok(None) };
        let bytes = key.seal(token, uid.as_bytes()).map_err(failed)?;
        Ok(Some(SealedSecret { key_id: key.id(), bytes }))
    }

    /// Opens a token that was sealed for the key or member with this uid.
    pub(crate) fn unseal(&self, sealed: &SealedSecret, uid: Uid) -> Result<Token, Error> {
        let key = self.keyring.sealing(sealed.key_id);
        let key = key.ok_or_else(|| Error::internal(format!("the keyring lacks sealing key {}", sealed.key_id)))?;
        key.open(&self.format, &sealed.bytes, uid.as_bytes()).map_err(failed)
    }
}

fn failed(error: SealError) -> Error {
    Error::internal(error.to_string())
}
