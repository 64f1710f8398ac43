//! Credential files: a file with one member credential.

use crate::format::{TokenFormat, TokenKind};
use crate::parse::{ParseError, ParsedToken};

/// Why the content of a file is not one member credential. No variant contains or prints any of the content.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum CredentialFault {
    /// The content is empty or only whitespace.
    #[error("is empty; it must hold a member's credential")]
    Empty,
    /// The content begins with a byte order mark, which some editors put before UTF-8 text.
    #[error("begins with a byte order mark; it must begin with the credential")]
    ByteOrderMark,
    /// The content has more than one line.
    #[error("has more than one line; it must hold one credential")]
    Lines,
    /// There is whitespace around the credential, other than one line break at the end.
    #[error("has space around the credential; only one line break after it is allowed")]
    Space,
    /// The content is a key's token. It authenticates clients of a service, not members of the admin API.
    #[error("holds a key's token; it must hold a member's credential, which begins with another prefix (kwm_)")]
    KeyToken,
    /// The content does not have the shape of a token.
    #[error("does not hold a member's credential: {0}")]
    Token(#[from] ParseError),
}

impl TokenFormat {
    /// Parses the content of a credential file: one member credential, with at most one line break after it.
    ///
    /// # Errors
    /// [`CredentialFault`]: the first of its variants, in their order, that applies.
    pub fn member_credential<'a>(&self, content: &'a str) -> Result<ParsedToken<'a>, CredentialFault> {
        if content.trim().is_empty() {
            return Err(CredentialFault::Empty);
        }
        if content.starts_with('\u{feff}') {
            return Err(CredentialFault::ByteOrderMark);
        }
        let line = content.strip_suffix('\n').map_or(content, |line| line.strip_suffix('\r').unwrap_or(line));
        if line.trim().contains(['\n', '\r']) {
            return Err(CredentialFault::Lines);
        }
        if line.trim() != line {
            return Err(CredentialFault::Space);
        }
        let parsed = self.parse(line)?;
        if parsed.kind() == TokenKind::Member { Ok(parsed) } else { Err(CredentialFault::KeyToken) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden;

    #[test]
    fn a_file_holds_one_credential_and_other_content_is_refused_with_its_fault() {
        let (credential, token) = (golden(TokenKind::Member), golden(TokenKind::Server));
        let check = |content: &str| TokenFormat::default().member_credential(content).map(|parsed| parsed.text().len());
        for good in [credential.clone(), format!("{credential}\n"), format!("{credential}\r\n")] {
            assert_eq!(check(&good), Ok(credential.len()));
        }
        for (bad, fault) in [
            (String::new(), CredentialFault::Empty),
            (" \n\n".to_owned(), CredentialFault::Empty),
            (format!("\u{feff}{credential}\n"), CredentialFault::ByteOrderMark),
            (format!("{credential}\n{credential}\n"), CredentialFault::Lines),
            (format!("# a comment\n{credential}\n"), CredentialFault::Lines),
            (format!("{credential} \n"), CredentialFault::Space),
            (format!(" {credential}"), CredentialFault::Space),
            (format!("{credential}\n\n"), CredentialFault::Space),
            (format!("{token}\n"), CredentialFault::KeyToken),
            (golden(TokenKind::Client), CredentialFault::KeyToken),
            ("hello".to_owned(), CredentialFault::Token(ParseError::WrongPrefix)),
            (format!("Bearer {credential}"), CredentialFault::Token(ParseError::WrongPrefix)),
            (format!("{credential}x"), CredentialFault::Token(ParseError::WrongLength)),
        ] {
            assert_eq!(check(&bad), Err(fault), "{bad:?}");
        }
    }
}
