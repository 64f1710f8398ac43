//! Checks the change log by its chain, and every row by the log.
//!
//! Whoever can write to the database but does not have the keyring cannot make an entry, so every change of an entry or
//! of a row shows; also once Keyward has changed the same row again, for each entry must follow from the ones before. The
//! cutting off of the log's end shows too: the head carries a keyed hash, and no writer goes on from another one. But for one: taking the log's
//! end, the head as it once was and all rows back together, as the restore of a backup does, or as somebody with the
//! keyring can. That one shows to whoever has kept a later head outside the database. Not covered are the tables that the
//! log says nothing about: settings, remembered requests, lives of admins.

mod expected;
mod log;
mod rows;
mod types;

use keyward_domain::{Error, Revision};

use crate::connect::Store;
use crate::error::{TxError, from_driver};

/// How many findings are kept; the others are counted.
const KEPT: usize = 100;

/// A place in the log, as somebody has noted it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogHead {
    /// Its revision.
    pub revision: Revision,
    /// The chain's value there.
    pub chain: [u8; 32],
}

/// Something that is not as it should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Where: a revision, a resource name, or a table.
    pub place: String,
    /// What is wrong there.
    pub problem: &'static str,
}

/// What a check of the log has found.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The end of the log.
    pub head: LogHead,
    /// How many entries were checked.
    pub entries: u64,
    /// How many rows were checked.
    pub rows: u64,
    /// The first 100 things that are not as they should be.
    pub findings: Vec<Finding>,
    /// How many there are in all.
    pub finding_count: u64,
}

/// Where findings are put.
#[derive(Debug, Default)]
struct Findings {
    kept: Vec<Finding>,
    count: u64,
}

impl Findings {
    fn add(&mut self, place: impl Into<String>, problem: &'static str) {
        self.count += 1;
        if self.kept.len() < KEPT {
            self.kept.push(Finding { place: place.into(), problem });
        }
    }
}

impl Store {
    /// Checks everything, as of one moment. `known`: a place that the log must still have.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`; `INTERNAL` when there is no head.
    pub async fn verify_log(&self, known: Option<LogHead>) -> Result<Verification, Error> {
        self.verify_once(known).await.map_err(|error| match error {
            TxError::Answer(error) => error,
            TxError::Conflict(error) => from_driver(&error),
        })
    }

    async fn verify_once(&self, known: Option<LogHead>) -> Result<Verification, TxError> {
        let tx = self.snapshot().await?;
        let mut findings = Findings::default();
        if !types::check(&tx, &mut findings).await? {
            tx.commit().await?;
            let head = LogHead { revision: Revision(0), chain: [0; 32] };
            let Findings { kept, count } = findings;
            return Ok(Verification { head, entries: 0, rows: 0, findings: kept, finding_count: count });
        }
        let log = log::check(&tx, &self.chain_key, known, &mut findings).await?;
        let rows = rows::check(&tx, log.expected, &mut findings).await?;
        tx.commit().await?;
        let Findings { kept, count } = findings;
        Ok(Verification { head: log.head, entries: log.entries, rows, findings: kept, finding_count: count })
    }
}
