use std::path::{Path, PathBuf};

use clap::Args;
use keyward_admin::{PeerOptions, PublicUrl, check_database_exposure};
use keyward_runtime::config::{Faults, Listen, SecretText, read_file, secret_or_file};
use keyward_runtime::merge;
use keyward_runtime::secret_file::{self, Holds};
use serde::Deserialize;

/// The settings of `admin` as they may be written: flags, then environment, then the TOML file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// The database, as postgres://user:password@host:5432/keyward?sslmode=verify-full or sqlite:/path. Beyond this machine
    /// the URL must have sslmode=verify-full; sslrootcert=FILE names a CA of your own.
    #[arg(long, env = "KEYWARD_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<SecretText>,
    /// File that holds the database's URL, so that its password is in no command line and no environment. Read again while
    /// the admin runs, so that user and password can be changed.
    #[arg(long, env = "KEYWARD_DATABASE_URL_FILE", value_name = "FILE")]
    database_url_file: Option<PathBuf>,
    /// The keyring that `keyward init` made.
    #[arg(long, env = "KEYWARD_KEYRING", value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Where the admin API is served. Default: 127.0.0.1:8510.
    #[arg(long, env = "KEYWARD_LISTEN", value_name = "ADDRESS")]
    listen: Option<Listen>,
    /// Where /livez, /readyz and /metrics are served. Default: 127.0.0.1:8519.
    #[arg(long, env = "KEYWARD_OPS_LISTEN", value_name = "ADDRESS")]
    ops_listen: Option<Listen>,
    /// Where the API is that keys open: what the snippets of the setup grid call. Default: http://127.0.0.1:8521/auth.
    #[arg(long, env = "KEYWARD_PUBLIC_API_URL", value_name = "URL")]
    public_api_url: Option<PublicUrl>,
    /// Where the other admins over the same database reach this one, as http://10.0.0.1:8510; port 0 stands for the port of
    /// --listen. Then they ask each other how their validators stand, and a deactivation takes milliseconds. Default: they
    /// do not, and it waits for leases to run out wherever there are several admins.
    #[arg(long, env = "KEYWARD_ADVERTISE", value_name = "URL", hide_env_values = true)]
    advertise: Option<String>,
    /// File that holds the credential by which admins ask each other: `keyward init --peer-credential` makes it. Goes with
    /// --advertise.
    #[arg(long, env = "KEYWARD_PEER_CREDENTIAL_FILE", value_name = "FILE")]
    peer_credential_file: Option<PathBuf>,
    /// Allows addresses beyond this machine without TLS, the database's included. For private networks only.
    #[arg(long, env = "KEYWARD_INSECURE_PLAINTEXT", num_args = 0..=1, default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new())]
    insecure_plaintext: Option<bool>,
    /// TOML file with these settings, named as the flags with underscores.
    #[arg(long, env = "KEYWARD_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
}

/// The settings of `admin`, checked.
#[derive(Debug)]
pub(crate) struct Config {
    pub(super) database_url: SecretText,
    /// Where it was read from, if it was.
    pub(super) database_url_file: Option<PathBuf>,
    pub(super) insecure_plaintext: bool,
    pub(super) keyring: PathBuf,
    pub(super) listen: Listen,
    pub(super) ops_listen: Listen,
    pub(super) public_url: PublicUrl,
    pub(super) peers: Option<PeerOptions>,
}

impl Options {
    /// Fills in the file and the defaults, and checks everything.
    ///
    /// # Errors
    /// Every fault at once.
    pub(crate) fn resolve(mut self) -> anyhow::Result<Config> {
        let file: Self = read_file(self.config.as_deref())?;
        let mut faults = Faults::default();
        let said = self.database_url.is_some() || self.database_url_file.is_some();
        merge!(
            self,
            file,
            [keyring, listen, ops_listen, public_api_url, advertise, peer_credential_file, insecure_plaintext]
        );
        if let (false, true, Some(config)) = (said, file.database_url.is_some(), self.config.as_deref()) {
            // Settings may be public; a password may not, wherever it is.
            let _ = secret_file::read_logged(config, Holds::Secret).map_err(|fault| faults.add(fault.to_string()));
        }
        if !said {
            // Together: a URL in the file must not clash with the name of one on the command line.
            (self.database_url, self.database_url_file) = (file.database_url, file.database_url_file);
        }
        let insecure = self.insecure_plaintext.unwrap_or(false);
        let url_file = self.database_url_file.as_deref();
        let database_url = secret_or_file("database-url", self.database_url, url_file, &mut faults);
        if let Some(Err(fault)) = database_url.as_ref().map(|url| check_database_exposure(url.expose(), insecure)) {
            faults.add(fault.to_string());
        }
        if self.keyring.is_none() {
            faults.add("no --keyring: `keyward init` makes one");
        }
        let listen = self.listen.unwrap_or(Listen::loopback(8510));
        let ops_listen = self.ops_listen.unwrap_or(Listen::loopback(8519));
        faults.check_exposure("the admin API", &listen, insecure);
        faults.check_exposure("the ops listener", &ops_listen, insecure);
        let peers =
            peers(self.advertise.as_deref(), self.peer_credential_file.as_deref(), &listen, insecure, &mut faults);
        let config = database_url.zip(self.keyring).map(|(database_url, keyring)| Config {
            database_url,
            database_url_file: self.database_url_file,
            insecure_plaintext: insecure,
            keyring,
            listen,
            ops_listen,
            public_url: self.public_api_url.unwrap_or_default(),
            peers,
        });
        faults.into_result(config)?.ok_or_else(|| anyhow::anyhow!("the configuration is incomplete"))
    }
}

/// How this admin and the others reach each other.
fn peers(
    advertise: Option<&str>,
    credential_file: Option<&Path>,
    listen: &Listen,
    insecure: bool,
    faults: &mut Faults,
) -> Option<PeerOptions> {
    let (advertise, file) = match (advertise, credential_file) {
        (Some(advertise), Some(file)) => (advertise, file),
        (None, None) => return None,
        _ => {
            faults.add("--advertise and --peer-credential-file go together: an admin that is asked also asks");
            return None;
        }
    };
    if matches!(listen, Listen::Unix(_)) {
        faults.add("--advertise is of use only where --listen is an address that other admins reach");
    }
    PeerOptions::with_credential_file(advertise, file, insecure).map_err(|fault| faults.add(fault)).ok()
}
