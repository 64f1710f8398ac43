use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyward_token::{CredentialFault, TokenFormat};
use tonic::metadata::{Ascii, MetadataValue};
use zeroize::Zeroizing;

/// Reads the credential from where it is kept, such as a file. The error names the source and the fault, never the content.
pub type ReadCredential = dyn Fn() -> Result<Zeroizing<String>, String> + Send + Sync;

/// The credential that a process presents to admins. It can be read again, so that a credential is rotated without a restart.
/// Cheap to clone; clones share the credential.
#[derive(Clone)]
pub struct Authorization(Arc<Inner>);

struct Inner {
    current: Mutex<MetadataValue<Ascii>>,
    /// `None` if the credential never changes.
    source: Option<Arc<ReadCredential>>,
    /// What was wrong when the credential was last read, so that it is logged once.
    fault: Mutex<Option<String>>,
}

/// `Bearer …` with that credential (RFC 6750 §2.1), marked sensitive: nothing prints the value, and HPACK never puts it into
/// the dynamic tables of the two ends of a connection (RFC 7541 §7.1.3).
fn bearer(content: &str) -> Result<MetadataValue<Ascii>, CredentialFault> {
    let format = TokenFormat::default();
    let credential = format.member_credential(content)?;
    let mut text = Zeroizing::new(String::with_capacity("Bearer ".len() + credential.text().len()));
    text.push_str("Bearer ");
    text.push_str(credential.text());
    let mut value: MetadataValue<Ascii> = text.parse().map_err(|_| CredentialFault::Space)?;
    value.set_sensitive(true);
    Ok(value)
}

impl Authorization {
    /// A credential that never changes. One line break may follow it.
    ///
    /// # Errors
    /// [`CredentialFault`]: the text is not a member's credential.
    pub fn fixed(content: &str) -> Result<Self, CredentialFault> {
        Ok(Self::new(bearer(content)?, None))
    }

    /// A credential that `read` reads, now and whenever it may have changed.
    ///
    /// # Errors
    /// The error of `read`, or the rule that the content breaks.
    pub fn read_by(
        name: &str,
        read: impl Fn() -> Result<Zeroizing<String>, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let name = name.to_owned();
        let read = move || {
            let content = read()?;
            // Checked here, so that the error names the source.
            TokenFormat::default().member_credential(&content).map_err(|fault| format!("{name} {fault}"))?;
            Ok(content)
        };
        let first = bearer(&read()?).map_err(|fault| fault.to_string())?;
        Ok(Self::new(first, Some(Arc::new(read))))
    }

    fn new(current: MetadataValue<Ascii>, source: Option<Arc<ReadCredential>>) -> Self {
        Self(Arc::new(Inner { current: Mutex::new(current), source, fault: Mutex::default() }))
    }

    /// What to present.
    pub fn current(&self) -> MetadataValue<Ascii> {
        lock(&self.0.current).clone()
    }

    /// Reads the credential again: before a connection is made, and after a refusal. If that fails, the previous credential
    /// stays in use, and the fault is logged once.
    pub async fn read_again(&self) {
        let Some(source) = self.0.source.clone() else { return };
        // A file may be on a network file system. A task that cannot be run changes nothing.
        let read = tokio::task::spawn_blocking(move || {
            let content = source()?;
            bearer(&content).map_err(|fault| fault.to_string())
        });
        let Ok(read) = read.await else { return };
        let mut known_fault = lock(&self.0.fault);
        match read {
            Ok(value) => {
                let mut current = lock(&self.0.current);
                if *current != value {
                    tracing::info!("the credential was changed; the new one is used from now on");
                    *current = value;
                }
                *known_fault = None;
            }
            Err(fault) => {
                if known_fault.as_ref() != Some(&fault) {
                    tracing::warn!(fault, "the credential cannot be read again; the previous credential stays in use");
                }
                *known_fault = Some(fault);
            }
        }
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(…)")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
