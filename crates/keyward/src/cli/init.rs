use std::path::PathBuf;

use clap::Args;
use keyward_admin::{Setup, SetupOutcome, check_database_exposure, check_lease, set_up};
use keyward_runtime::config::{Faults, SecretText, Span, secret_or_file};
use keyward_token::TokenFormat;

use crate::cli::output::line;

/// What `keyward init` is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Init {
    /// The database, as postgres://user:password@host:5432/keyward?sslmode=verify-full. Beyond this machine the URL must have
    /// sslmode=verify-full; sslrootcert=FILE names a CA of your own.
    #[arg(long, env = "KEYWARD_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<SecretText>,
    /// File that holds the database's URL, so that its password is in no command line and no environment.
    #[arg(long, env = "KEYWARD_DATABASE_URL_FILE", value_name = "FILE")]
    database_url_file: Option<PathBuf>,
    /// Where the keyring is to be, or is already. Every admin needs it; without it no token is known.
    #[arg(long, env = "KEYWARD_KEYRING", value_name = "FILE")]
    keyring: PathBuf,
    /// Where the root member's credential is to be.
    #[arg(long, env = "KEYWARD_ROOT_CREDENTIAL", value_name = "FILE")]
    root_credential: PathBuf,
    /// Where the credential by which admins ask each other is to be, or is already: what `keyward admin` is given as
    /// --peer-credential-file. It is the member members/admins'.
    #[arg(long, env = "KEYWARD_PEER_CREDENTIAL", value_name = "FILE")]
    peer_credential: Option<PathBuf>,
    /// Longest lease of a validator, as 10s or 2500ms, for admins that start from now on: how long validators answer
    /// without an admin, and how long a deactivation may take while something is broken. Default: as it is, or 10s.
    #[arg(long, env = "KEYWARD_LEASE", value_name = "DURATION")]
    lease: Option<Span>,
    /// Allows a database beyond this machine without a verified certificate. For private networks only.
    #[arg(long, env = "KEYWARD_INSECURE_PLAINTEXT", num_args = 0..=1, default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new())]
    insecure_plaintext: Option<bool>,
}

impl Init {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut faults = Faults::default();
        let url = secret_or_file("database-url", self.database_url, self.database_url_file.as_deref(), &mut faults);
        let insecure = self.insecure_plaintext.unwrap_or(false);
        if let Some(Err(fault)) = url.as_ref().map(|url| check_database_exposure(url.expose(), insecure)) {
            faults.add(fault.to_string());
        }
        if let Some(Err(fault)) = self.lease.map(|span| check_lease(span.0)) {
            faults.add(fault);
        }
        let url = faults.into_result(url)?.ok_or_else(|| anyhow::anyhow!("no database"))?;
        let (keyring, root_credential) = (self.keyring.as_path(), self.root_credential.as_path());
        let peer_credential = self.peer_credential.as_deref();
        let setup = Setup { keyring, root_credential, lease: self.lease.map(|span| span.0), peer_credential };
        let outcome = set_up(url.expose(), setup, &TokenFormat::default()).await?;
        match outcome {
            SetupOutcome::Made => {
                line("The database is set up.")?;
                let keyring = keyring.display();
                line(&format!("Its keyring is in {keyring}: keep a copy where the database's backups are not."))?;
                line(&format!("The root member's credential is in {}.", root_credential.display()))?;
                if let Some(file) = peer_credential {
                    line(&format!("The credential of admins among themselves is in {}.", file.display()))?;
                }
                line(&format!("Next: keyward admin --database-url … --keyring {keyring}"))?;
            }
            SetupOutcome::AlreadyThere => line("The database was set up before, with this keyring.")?,
        }
        Ok(())
    }
}
