#![doc = include_str!("../README.md")]

mod base62;
mod checksum;
pub mod context;
mod credential;
mod digest;
mod entropy;
mod format;
mod keyring;
mod parse;
mod seal;
#[cfg(test)]
mod testing;
mod token;

pub use credential::CredentialFault;
pub use digest::{Digest, DigestKey, DigestLengthError};
pub use entropy::EntropyError;
pub use format::{CHECKSUM_CHARS, MAX_PREFIX_LEN, MAX_TOKEN_LEN, PrefixError, RANDOM_CHARS, TokenFormat, TokenKind};
pub use keyring::{Keyring, KeyringError};
pub use parse::{ParseError, ParsedToken};
pub use seal::{SealError, SealingKey};
pub use token::Token;
