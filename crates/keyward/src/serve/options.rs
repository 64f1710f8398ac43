use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, FromArgMatches};
use keyward_admin::{PublicUrl, check_lease};
use keyward_runtime::config::{ConnectionSettings, Faults, Listen, Span, read_file};
use keyward_runtime::connections::ConnectionLimits;
use keyward_runtime::environment::without_empty_variables;
use keyward_runtime::merge;
use keyward_validator::{TokenSources, token_sources};
use serde::Deserialize;

use crate::defaults;

/// The settings of `serve` as they are written: flags, then environment, then the TOML file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// Directory of the database, the keyring and the root credential; created if missing. Default: keyward-data.
    #[arg(long, env = "KEYWARD_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Listen address of the admin API. Default: 127.0.0.1:8510.
    #[arg(long, env = "KEYWARD_ADMIN_LISTEN", value_name = "ADDRESS")]
    admin_listen: Option<Listen>,
    /// Listen address of the validator's gRPC. Default: 127.0.0.1:8520.
    #[arg(long, env = "KEYWARD_VALIDATOR_LISTEN", value_name = "ADDRESS")]
    validator_listen: Option<Listen>,
    /// Listen address of the HTTP hook. Default: 127.0.0.1:8521.
    #[arg(long, env = "KEYWARD_HOOK_LISTEN", value_name = "ADDRESS")]
    hook_listen: Option<Listen>,
    /// Listen address of the admin's /livez, /readyz and /metrics. Default: 127.0.0.1:8519.
    #[arg(long, env = "KEYWARD_ADMIN_OPS_LISTEN", value_name = "ADDRESS")]
    admin_ops_listen: Option<Listen>,
    /// Listen address of the validator's /livez, /readyz and /metrics. Default: 127.0.0.1:8529.
    #[arg(long, env = "KEYWARD_VALIDATOR_OPS_LISTEN", value_name = "ADDRESS")]
    validator_ops_listen: Option<Listen>,
    /// Longest lease of a validator: how long it answers without its admin, and how long a deactivation may take while a
    /// validator is unreachable. Once set, it is kept in the database. Default: 10s.
    #[arg(long, env = "KEYWARD_LEASE", value_name = "DURATION")]
    lease: Option<Span>,
    /// Base URL of your API, used in the setup snippets. Default: URL of the HTTP hook, or http://127.0.0.1:8521/auth if the
    /// hook listens on a Unix socket.
    #[arg(long, env = "KEYWARD_PUBLIC_API_URL", value_name = "URL")]
    public_api_url: Option<PublicUrl>,
    /// Request header that carries "Bearer" and a token. Default: authorization.
    #[arg(long, env = "KEYWARD_BEARER_HEADER", value_name = "NAME")]
    bearer_header: Option<String>,
    /// Request header that carries a bare token. Default: x-api-key.
    #[arg(long, env = "KEYWARD_KEY_HEADER", value_name = "NAME")]
    key_header: Option<String>,
    /// Query parameter that may carry a token, such as key. URLs end up in access logs and browser histories. Default: none.
    #[arg(long, env = "KEYWARD_QUERY_PARAMETER", value_name = "NAME")]
    query_parameter: Option<String>,
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
    /// Allow addresses that other machines can reach, without TLS. For private networks only. Default: false.
    #[arg(long, env = "KEYWARD_INSECURE_PLAINTEXT", num_args = 0..=1, default_missing_value = "true",
        value_name = "BOOL", value_parser = clap::builder::BoolishValueParser::new())]
    insecure_plaintext: Option<bool>,
    /// TOML file with these settings. A flag's name there has underscores in place of hyphens.
    #[arg(long, env = "KEYWARD_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
}

/// The checked settings of `serve`.
#[derive(Debug)]
pub(crate) struct Config {
    pub(super) data_dir: PathBuf,
    pub(super) lease: Option<Duration>,
    /// `None` if it is the URL of the HTTP hook.
    pub(super) public_url: Option<PublicUrl>,
    pub(super) admin_listen: Listen,
    pub(super) validator_listen: Listen,
    pub(super) hook_listen: Listen,
    pub(super) admin_ops_listen: Listen,
    pub(super) validator_ops_listen: Listen,
    pub(super) token_sources: TokenSources,
    pub(super) connections: ConnectionLimits,
}

impl Options {
    /// Returns the settings of a bare `keyward`: no flags, and the environment.
    pub(crate) fn default_from_env() -> Self {
        let command = Self::augment_args(clap::Command::new("serve").no_binary_name(true));
        without_empty_variables(command)
            .try_get_matches_from(std::iter::empty::<&str>())
            .and_then(|matches| Self::from_arg_matches(&matches))
            .unwrap_or_else(|error| error.exit())
    }

    /// Merges in the file and the defaults, and checks all settings.
    ///
    /// # Errors
    /// All faults, in one message.
    pub(crate) fn resolve(self) -> anyhow::Result<Config> {
        let file: Self = read_file(self.config.as_deref())?;
        let settings = merge!(self, file => Self {
            data_dir,
            lease,
            public_api_url,
            admin_listen,
            validator_listen,
            hook_listen,
            admin_ops_listen,
            validator_ops_listen,
            bearer_header,
            key_header,
            query_parameter,
            max_connections,
            first_request_timeout,
            message_memory_mib,
            insecure_plaintext;
            config,
        });
        settings.check()
    }

    fn check(self) -> anyhow::Result<Config> {
        let mut faults = Faults::default();
        let query = self.query_parameter.as_deref();
        let config = Config {
            connections: ConnectionSettings {
                max_connections: self.max_connections,
                first_request_timeout: self.first_request_timeout,
                message_memory_mib: self.message_memory_mib,
            }
            .check(&mut faults),
            token_sources: token_sources(self.bearer_header.as_deref(), self.key_header.as_deref(), query, &mut faults),
            lease: self.lease.map(|span| span.0),
            public_url: self.public_api_url,
            data_dir: self.data_dir.unwrap_or_else(|| defaults::DATA_DIR.into()),
            admin_listen: self.admin_listen.unwrap_or(Listen::loopback(8510)),
            validator_listen: self.validator_listen.unwrap_or(Listen::loopback(8520)),
            hook_listen: self.hook_listen.unwrap_or(Listen::loopback(8521)),
            admin_ops_listen: self.admin_ops_listen.unwrap_or(Listen::loopback(8519)),
            validator_ops_listen: self.validator_ops_listen.unwrap_or(Listen::loopback(8529)),
        };
        let insecure = self.insecure_plaintext.unwrap_or(false);
        if let Some(Err(fault)) = config.lease.map(check_lease) {
            faults.add(fault);
        }
        faults.check_exposure("the admin API", &config.admin_listen, insecure);
        faults.check_exposure("the validator", &config.validator_listen, insecure);
        faults.check_exposure("the HTTP hook", &config.hook_listen, insecure);
        faults.check_exposure("the admin's ops listener", &config.admin_ops_listen, insecure);
        faults.check_exposure("the validator's ops listener", &config.validator_ops_listen, insecure);
        faults.into_result(config)
    }
}
