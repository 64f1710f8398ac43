use std::path::{Path, PathBuf};

use clap::Args;
use keyward_admin::{PeerOptions, PublicUrl, check_database_exposure};
use keyward_runtime::config::{ConnectionSettings, Faults, Listen, SecretText, Span, read_file, secret_or_file};
use keyward_runtime::connections::ConnectionLimits;
use keyward_runtime::merge;
use keyward_runtime::secret_file::{self, Holds};
use serde::Deserialize;

/// The settings of `admin` as they are written: flags, then environment, then the TOML file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// URL of the database, such as postgres://user:password@host:5432/keyward?sslmode=verify-full or sqlite:/path. For a
    /// database on another machine it must have sslmode=verify-full; sslrootcert=FILE names your own CA.
    #[arg(long, env = "KEYWARD_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<SecretText>,
    /// File that holds the URL of the database, which keeps its password out of the command line and the environment. Read
    /// again while the admin runs, so user and password can be changed without a restart.
    #[arg(long, env = "KEYWARD_DATABASE_URL_FILE", value_name = "FILE")]
    database_url_file: Option<PathBuf>,
    /// File of the keyring that `keyward init` created. Required.
    #[arg(long, env = "KEYWARD_KEYRING", value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Listen address of the admin API. Default: 127.0.0.1:8510.
    #[arg(long, env = "KEYWARD_LISTEN", value_name = "ADDRESS")]
    listen: Option<Listen>,
    /// Listen address of /livez, /readyz and /metrics. Default: 127.0.0.1:8519.
    #[arg(long, env = "KEYWARD_OPS_LISTEN", value_name = "ADDRESS")]
    ops_listen: Option<Listen>,
    /// Base URL of your API, used in the setup snippets. Default: http://127.0.0.1:8521/auth.
    #[arg(long, env = "KEYWARD_PUBLIC_API_URL", value_name = "URL")]
    public_api_url: Option<PublicUrl>,
    /// URL at which the other admins of the same database reach this one, such as http://10.0.0.1:8510; port 0 stands for
    /// the port of --listen. Admins that advertise ask each other for the acknowledgements of their validators, and a
    /// deactivation takes milliseconds. Without it, a deactivation waits for leases to expire if there are several admins.
    /// Requires --peer-credential-file. Default: none.
    #[arg(long, env = "KEYWARD_ADVERTISE", value_name = "URL", hide_env_values = true)]
    advertise: Option<String>,
    /// File that holds the credential for calls between admins; `keyward init --peer-credential` creates it. Requires
    /// --advertise. Default: none.
    #[arg(long, env = "KEYWARD_PEER_CREDENTIAL_FILE", value_name = "FILE")]
    peer_credential_file: Option<PathBuf>,
    /// Most connections of each listener at a time; of an ops listener, at most 64. At the limit a new connection replaces one that
    /// never had a request, or else the one without a request for longest, or one whose request has not moved for 60s, and is
    /// closed if there is none. The limit of open files can lower the number; a warning at start shows it. Default: 4096.
    #[arg(long, env = "KEYWARD_MAX_CONNECTIONS", value_name = "NUMBER")]
    max_connections: Option<usize>,
    /// How long a connection may be open before its first request is complete. Set it longer than your clients keep a connection open
    /// before their first request. A connection that has sent nothing is closed after 10s in any case. From 1s to 10m.
    /// Default: 30s.
    #[arg(long, env = "KEYWARD_FIRST_REQUEST_TIMEOUT", value_name = "DURATION")]
    first_request_timeout: Option<Span>,
    /// Memory that gRPC calls may hold, in MiB: requests that are being received and answers that are not read yet. Two gRPC
    /// listeners of a process have half each. One connection may hold 256 KiB, and beyond that an eighth of its listener's memory.
    /// Further calls are refused with OVERLOADED. From 32 to 65536. Default: 128.
    #[arg(long, env = "KEYWARD_MESSAGE_MEMORY_MIB", value_name = "NUMBER")]
    message_memory_mib: Option<usize>,
    /// Allow addresses that other machines can reach, without TLS, and a database on another machine without a verified
    /// certificate. For private networks only. Default: false.
    #[arg(long, env = "KEYWARD_INSECURE_PLAINTEXT", num_args = 0..=1, default_missing_value = "true",
        value_name = "BOOL", value_parser = clap::builder::BoolishValueParser::new())]
    insecure_plaintext: Option<bool>,
    /// TOML file with these settings. A flag's name there has underscores in place of hyphens.
    #[arg(long, env = "KEYWARD_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
}

/// The checked settings of `admin`.
#[derive(Debug)]
pub(crate) struct Config {
    pub(super) database_url: SecretText,
    /// The file that `database_url` was read from. `None` if the URL was given directly.
    pub(super) database_url_file: Option<PathBuf>,
    pub(super) insecure_plaintext: bool,
    pub(super) keyring: PathBuf,
    pub(super) listen: Listen,
    pub(super) ops_listen: Listen,
    pub(super) public_url: PublicUrl,
    pub(super) peers: Option<PeerOptions>,
    pub(super) connections: ConnectionLimits,
}

impl Options {
    /// Merges in the file and the defaults, and checks all settings.
    ///
    /// # Errors
    /// All faults, in one message.
    pub(crate) fn resolve(mut self) -> anyhow::Result<Config> {
        let mut faults = Faults::default();
        let mut file: Self = read_file(self.config.as_deref())?;
        // The URL and its file are one setting: a URL in the TOML file must not conflict with a file on the command line.
        if self.database_url.is_none() && self.database_url_file.is_none() {
            if let (Some(_), Some(config)) = (&file.database_url, &self.config) {
                // This TOML file holds a password, so the rules for files with secrets apply to it.
                let _ = secret_file::read_logged(config, Holds::Secret).map_err(|fault| faults.add(fault.to_string()));
            }
            self.database_url = file.database_url.take();
            self.database_url_file = file.database_url_file.take();
        }
        let settings = merge!(self, file => Self {
            keyring,
            listen,
            ops_listen,
            public_api_url,
            advertise,
            peer_credential_file,
            max_connections,
            first_request_timeout,
            message_memory_mib,
            insecure_plaintext;
            database_url,
            database_url_file,
            config,
        });
        settings.check(faults)
    }

    fn check(self, mut faults: Faults) -> anyhow::Result<Config> {
        let insecure = self.insecure_plaintext.unwrap_or(false);
        let url_file = self.database_url_file.as_deref();
        let database_url = secret_or_file("database-url", self.database_url, url_file, &mut faults);
        if let Some(Err(fault)) = database_url.as_ref().map(|url| check_database_exposure(url.expose(), insecure)) {
            faults.add(fault.to_string());
        }
        if self.keyring.is_none() {
            faults.add("--keyring is required; `keyward init` creates one");
        }
        let listen = self.listen.unwrap_or(Listen::loopback(8510));
        let ops_listen = self.ops_listen.unwrap_or(Listen::loopback(8519));
        faults.check_exposure("the admin API", &listen, insecure);
        faults.check_exposure("the ops listener", &ops_listen, insecure);
        let peers =
            peers(self.advertise.as_deref(), self.peer_credential_file.as_deref(), &listen, insecure, &mut faults);
        let connections = ConnectionSettings {
            max_connections: self.max_connections,
            first_request_timeout: self.first_request_timeout,
            message_memory_mib: self.message_memory_mib,
        }
        .check(&mut faults);
        let config = database_url.zip(self.keyring).map(|(database_url, keyring)| Config {
            database_url,
            database_url_file: self.database_url_file,
            insecure_plaintext: insecure,
            keyring,
            listen,
            ops_listen,
            public_url: self.public_api_url.unwrap_or_default(),
            peers,
            connections,
        });
        faults.into_result(config)?.ok_or_else(|| anyhow::anyhow!("the configuration is incomplete"))
    }
}

/// Checks the settings by which the admins of one database reach each other. Returns `None` if there are none, or after
/// adding a fault.
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
            faults.add("--advertise and --peer-credential-file require each other");
            return None;
        }
    };
    if matches!(listen, Listen::Unix(_)) {
        faults.add("--advertise requires a TCP address in --listen, which other admins can reach");
    }
    PeerOptions::with_credential_file(advertise, file, insecure).map_err(|fault| faults.add(fault)).ok()
}
