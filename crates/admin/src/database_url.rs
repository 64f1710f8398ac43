//! The database's URL in a file: read again while the admin runs, so that its password is changed without a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyward_runtime::config::SecretText;
use keyward_runtime::secret_file::rereader;
use keyward_store::Store;
use zeroize::Zeroizing;

/// How often the file is looked at. Connections that are open stay open when a password is changed, and new ones are refused
/// only later, one by one; the file says it at once.
const LOOK: Duration = Duration::from_secs(2);

/// Follows the file from the URL that the store was opened with. Never returns. A URL that does not work leaves the
/// connections as they are: what is wrong is logged once, and the URL is tried again with each look.
pub async fn follow_database_url(store: &Store, file: &Path, opened_with: SecretText, insecure_plaintext: bool) {
    let (read, mut known, mut told) = (Arc::new(rereader(file)), opened_with, None);
    loop {
        tokio::time::sleep(LOOK).await;
        let fault = match reread(&read).await {
            Ok(url) if url.expose() == known.expose() => None,
            Ok(url) => match store.renew(url.expose(), insecure_plaintext).await {
                Ok(()) => {
                    tracing::info!("the database URL was changed; the database is used by the new one from now on");
                    known = url;
                    None
                }
                Err(error) => Some(format!("{}: {error}", file.display())),
            },
            Err(fault) => Some(fault),
        };
        if fault.is_some() && fault != told {
            tracing::warn!(fault, "the database URL in the file is not used; the one that is known is kept");
        }
        told = fault;
    }
}

async fn reread(
    read: &Arc<impl Fn() -> Result<Zeroizing<String>, String> + Send + Sync + 'static>,
) -> Result<SecretText, String> {
    let read = Arc::clone(read);
    let content = tokio::task::spawn_blocking(move || read()).await;
    content.unwrap_or_else(|_| Err("the file was not read".to_owned())).map(|content| SecretText::line(&content))
}
