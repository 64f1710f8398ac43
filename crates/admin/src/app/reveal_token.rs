use keyward_domain::{Error, KeyName, Permission};
use keyward_token::Token;

use crate::app::{App, Caller, visible};

impl App {
    pub(crate) fn may_reveal_token(&self, caller: &Caller, name: &KeyName) -> Result<(), Error> {
        visible::on_key(caller, Permission::KeyReveal, name)
    }

    /// A key's token in clear. That it was shown is in the log before it is.
    pub(crate) async fn reveal_token(&self, caller: &Caller, name: &KeyName) -> Result<Token, Error> {
        let call = self.call_on(caller, Permission::KeyReveal, name);
        let revealed = self.store.reveal_token(&call, name).await?;
        tracing::info!(key = %name, actor = %caller.id, "token revealed");
        self.secrets.unseal(&revealed.sealed, revealed.key.uid)
    }
}
