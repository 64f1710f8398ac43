//! Rereads the file with the database's URL while the admin runs, so that a password can change without a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyward_runtime::config::SecretText;
use keyward_runtime::secret_file::rereader;
use keyward_store::Store;
use zeroize::Zeroizing;

/// How often the file is read. Waiting for an authentication error instead would be late: a changed password breaks new
/// connections only, and the pool may not need one for a long time.
const POLL: Duration = Duration::from_secs(2);

/// Reconnects the store whenever the file has another URL than the one in use; `opened_with` is the first. Never returns. A URL
/// that does not work leaves the connections as they are: its fault is logged once, and it is tried again on every read.
pub async fn follow_database_url(store: &Store, file: &Path, opened_with: SecretText, insecure_plaintext: bool) {
    let (read, mut in_use, mut logged) = (Arc::new(rereader(file)), opened_with, None);
    loop {
        tokio::time::sleep(POLL).await;
        let fault = match reread(&read).await {
            Ok(url) if url.expose() == in_use.expose() => None,
            Ok(url) => match store.renew(url.expose(), insecure_plaintext).await {
                Ok(()) => {
                    tracing::info!("the database URL was changed; connections use the new one from now on");
                    in_use = url;
                    None
                }
                Err(error) => Some(format!("{}: {error}", file.display())),
            },
            Err(fault) => Some(fault),
        };
        if fault.is_some() && fault != logged {
            tracing::warn!(fault, "the database URL in the file is not used; the previous URL stays in use");
        }
        logged = fault;
    }
}

async fn reread(
    read: &Arc<impl Fn() -> Result<Zeroizing<String>, String> + Send + Sync + 'static>,
) -> Result<SecretText, String> {
    let read = Arc::clone(read);
    let content = tokio::task::spawn_blocking(move || read()).await;
    content.unwrap_or_else(|_| Err("the file could not be read".to_owned())).map(|content| SecretText::line(&content))
}
