//! Checks the change log by its hash chain, and every row by the log.
//!
//! An attacker who can write to the database but lacks the keyring cannot forge an entry, so every change of an entry or of a
//! row is found. That stays so after Keyward changes the same row again, because each entry must follow from the entries
//! before it. Each entry must also have been permitted by the entries before it: a role or a credential that was forged, used
//! and removed again leaves acts in the log that the log does not permit. What it only read is not in the log. Cutting off the
//! end of the log is found as well: the head carries a MAC, and Keyward writes nothing on a head whose MAC does not match.
//!
//! One manipulation is not found: setting the end of the log, the matching old head and all rows back together, as restoring
//! a backup does. It is found by comparing with a later head that an operator kept outside the database. Tables that the log
//! does not cover are not checked: settings and admin lives. Rows of remembered requests are checked by their MACs: a change is
//! found, a deletion is not.

mod expected;
mod log;
mod report;
mod requests;
mod rights;
mod rows;
mod types;

use keyward_domain::Error;

use crate::error::TxError;
use crate::store::Store;
use crate::verify::report::Findings;

pub use report::{Finding, LogHead, Verification};

impl Store {
    /// Checks the whole log and every row that it covers, as of one moment. The log must contain the head `known`, if given.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`; `INTERNAL` if the database has no head.
    pub async fn verify_log(&self, known: Option<LogHead>) -> Result<Verification, Error> {
        Ok(self.verify_once(known).await?)
    }

    async fn verify_once(&self, known: Option<LogHead>) -> Result<Verification, TxError> {
        let tx = self.reader().begin_snapshot().await?;
        let mut findings = Findings::default();
        if !types::check(&tx, &mut findings).await? {
            tx.commit().await?;
            return Ok(findings.into_verification(LogHead::EMPTY, 0, 0));
        }
        let log = log::check(&tx, &self.chain_key, known, &mut findings).await?;
        let rows = rows::check(&tx, log.expected, &mut findings).await?;
        requests::check(&tx, self, &mut findings).await?;
        tx.commit().await?;
        Ok(findings.into_verification(log.head, log.entries, rows))
    }
}
