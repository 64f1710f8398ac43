use keyward_domain::{Error, KeyName};
use keyward_token::Token;

use crate::app::App;
use crate::auth::Authorized;

impl App {
    /// Returns a key's token. The log entry of the revelation is committed first.
    pub(crate) async fn reveal_token(&self, by: &Authorized<KeyName>) -> Result<Token, Error> {
        let revealed = self.store.reveal_token(&by.call(None), &by.target).await?;
        tracing::info!(key = %by.target, actor = %by.actor(), "token revealed");
        self.secrets.unseal(&revealed.sealed, revealed.key.uid)
    }
}
