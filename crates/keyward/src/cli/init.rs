use std::path::PathBuf;

use clap::Args;
use keyward_admin::{Setup, SetupOutcome, check_database_exposure, check_lease, set_up};
use keyward_runtime::config::{Faults, SecretText, Span, secret_or_file};
use keyward_token::TokenFormat;

use crate::cli::output::line;

/// Options of `keyward init`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Init {
    /// URL of the database, such as postgres://user:password@host:5432/keyward?sslmode=verify-full. For a database on another
    /// machine it must have sslmode=verify-full; sslrootcert=FILE names your own CA.
    #[arg(long, env = "KEYWARD_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<SecretText>,
    /// File that holds the URL of the database, which keeps its password out of the command line and the environment.
    #[arg(long, env = "KEYWARD_DATABASE_URL_FILE", value_name = "FILE")]
    database_url_file: Option<PathBuf>,
    /// File of the keyring; created if missing. Every admin needs it: without it no token is recognized.
    #[arg(long, env = "KEYWARD_KEYRING", value_name = "FILE")]
    keyring: PathBuf,
    /// File to create for the root member's credential.
    #[arg(long, env = "KEYWARD_ROOT_CREDENTIAL", value_name = "FILE")]
    root_credential: PathBuf,
    /// File of the credential for calls between admins; created if missing. It belongs to the member members/admins, and is
    /// the --peer-credential-file of `keyward admin`.
    #[arg(long, env = "KEYWARD_PEER_CREDENTIAL", value_name = "FILE")]
    peer_credential: Option<PathBuf>,
    /// Longest lease of a validator: how long it answers without an admin, and how long a deactivation may take while a
    /// validator is unreachable. Takes effect when an admin starts. Default: the value in the database, or 10s in a new one.
    #[arg(long, env = "KEYWARD_LEASE", value_name = "DURATION")]
    lease: Option<Span>,
    /// Allow a database on another machine without a verified certificate. For private networks only. Default: false.
    #[arg(long, env = "KEYWARD_INSECURE_PLAINTEXT", num_args = 0..=1, default_missing_value = "true",
        value_name = "BOOL", value_parser = clap::builder::BoolishValueParser::new())]
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
                line(&format!("The keyring is in {keyring}: keep a copy apart from the backups of the database."))?;
                line(&format!("The root member's credential is in {}.", root_credential.display()))?;
                if let Some(file) = peer_credential {
                    line(&format!("The credential for calls between admins is in {}.", file.display()))?;
                }
                line(&format!("Next: keyward admin --database-url … --keyring {keyring}"))?;
            }
            SetupOutcome::AlreadyThere => line("The database was set up before, with this keyring.")?,
        }
        Ok(())
    }
}
