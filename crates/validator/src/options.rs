use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use keyward_domain::TokenSources;
use keyward_runtime::config::{ConnectionSettings, Faults, Listen, Span, admins, read_file};
use keyward_runtime::connections::ConnectionLimits;
use keyward_runtime::merge;
use keyward_runtime::secret_file::rereader;
use keyward_sync::{Authorization, Connector, Upstream};
use serde::Deserialize;

/// Default of `--drain-delay`. Gateways must notice in this time that the health check fails: the configurations in
/// `deploy/` check once a second.
const DRAIN_DELAY: Duration = Duration::from_secs(3);

const LONGEST_DRAIN_DELAY: Duration = Duration::from_secs(300);

/// The settings of a validator as they are written: flags, then environment, then the TOML file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Address of an admin, such as http://127.0.0.1:8510. Repeatable: the next admin is tried when one fails. Required.
    #[arg(long, env = "KEYWARD_ADMIN", value_delimiter = ',', value_name = "URL", hide_env_values = true)]
    pub admin: Option<Vec<String>>,
    /// File that holds the credential of a member with role validator. Read again when the credential may have changed, so
    /// it can be rotated without a restart. Required.
    #[arg(long, env = "KEYWARD_CREDENTIAL_FILE", value_name = "FILE")]
    pub credential_file: Option<PathBuf>,
    /// Listen address of gRPC (ValidateToken and Envoy's Check). Default: 127.0.0.1:8520.
    #[arg(long, env = "KEYWARD_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<Listen>,
    /// Listen address of the HTTP hook. Default: 127.0.0.1:8521.
    #[arg(long, env = "KEYWARD_HOOK_LISTEN", value_name = "ADDRESS")]
    pub hook_listen: Option<Listen>,
    /// Listen address of /livez, /readyz and /metrics. Default: 127.0.0.1:8529.
    #[arg(long, env = "KEYWARD_OPS_LISTEN", value_name = "ADDRESS")]
    pub ops_listen: Option<Listen>,
    /// Request header that carries "Bearer" and a token. Default: authorization.
    #[arg(long, env = "KEYWARD_BEARER_HEADER", value_name = "NAME")]
    pub bearer_header: Option<String>,
    /// Request header that carries a bare token. Default: x-api-key.
    #[arg(long, env = "KEYWARD_KEY_HEADER", value_name = "NAME")]
    pub key_header: Option<String>,
    /// Query parameter that may carry a token, such as key. URLs end up in access logs and browser histories. Default: none.
    #[arg(long, env = "KEYWARD_QUERY_PARAMETER", value_name = "NAME")]
    pub query_parameter: Option<String>,
    /// After SIGTERM, how long to keep answering while health checks report NOT_SERVING, so that gateways switch to another
    /// validator before this one closes its connections. At most 5m; a second signal ends the delay. Default: 3s.
    #[arg(long, env = "KEYWARD_DRAIN_DELAY", value_name = "DURATION")]
    pub drain_delay: Option<Span>,
    /// Most connections of each listener at a time; of an ops listener, at most 64. At the limit a new connection replaces one that
    /// never had a request, or else the one without a request for longest, or one whose request has not moved for 60s, and is
    /// closed if there is none. The limit of open files can lower the number; a warning at start shows it. Default: 4096.
    #[arg(long, env = "KEYWARD_MAX_CONNECTIONS", value_name = "NUMBER")]
    pub max_connections: Option<usize>,
    /// How long a connection may be open before its first request is complete. Set it longer than your clients keep a connection open
    /// before their first request. A connection that has sent nothing is closed after 10s in any case. From 1s to 10m.
    /// Default: 30s.
    #[arg(long, env = "KEYWARD_FIRST_REQUEST_TIMEOUT", value_name = "DURATION")]
    pub first_request_timeout: Option<Span>,
    /// Memory that gRPC calls may hold, in MiB: requests that are being received and answers that are not read yet. Two gRPC
    /// listeners of a process have half each. One connection may hold 256 KiB, and beyond that an eighth of its listener's memory.
    /// Further calls are refused with OVERLOADED. From 32 to 65536. Default: 128.
    #[arg(long, env = "KEYWARD_MESSAGE_MEMORY_MIB", value_name = "NUMBER")]
    pub message_memory_mib: Option<usize>,
    /// Allow addresses that other machines can reach, without TLS. For private networks only. Default: false.
    #[arg(long, env = "KEYWARD_INSECURE_PLAINTEXT", num_args = 0..=1, default_missing_value = "true",
        value_name = "BOOL", value_parser = clap::builder::BoolishValueParser::new())]
    pub insecure_plaintext: Option<bool>,
    /// TOML file with these settings. A flag's name there has underscores in place of hyphens.
    #[arg(long, env = "KEYWARD_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// The checked settings of a validator.
#[derive(Debug)]
pub struct Config {
    /// The admins that feed the replica.
    pub upstream: Upstream,
    /// Listen address of gRPC.
    pub listen: Listen,
    /// Listen address of the HTTP hook.
    pub hook_listen: Listen,
    /// Listen address of probes and metrics.
    pub ops_listen: Listen,
    /// Where gateways' requests carry tokens.
    pub token_sources: TokenSources,
    /// Time from the shutdown signal until the drain begins.
    pub drain_delay: Duration,
    /// Limits of each listener's connections.
    pub connections: ConnectionLimits,
}

impl Options {
    /// Merges in the file and the defaults, and checks all settings.
    ///
    /// # Errors
    /// All faults, in one message.
    pub fn resolve(self) -> anyhow::Result<Config> {
        let file: Self = read_file(self.config.as_deref())?;
        let settings = merge!(self, file => Self {
            admin,
            credential_file,
            listen,
            hook_listen,
            ops_listen,
            bearer_header,
            key_header,
            query_parameter,
            drain_delay,
            max_connections,
            first_request_timeout,
            message_memory_mib,
            insecure_plaintext;
            config,
        });
        settings.check()
    }

    fn check(self) -> anyhow::Result<Config> {
        let insecure = self.insecure_plaintext.unwrap_or(false);
        let mut faults = Faults::default();
        let listen = self.listen.unwrap_or(Listen::loopback(8520));
        let hook_listen = self.hook_listen.unwrap_or(Listen::loopback(8521));
        let ops_listen = self.ops_listen.unwrap_or(Listen::loopback(8529));
        faults.check_exposure("the validator", &listen, insecure);
        faults.check_exposure("the HTTP hook", &hook_listen, insecure);
        faults.check_exposure("the ops listener", &ops_listen, insecure);
        let query = self.query_parameter.as_deref();
        let token_sources =
            token_sources(self.bearer_header.as_deref(), self.key_header.as_deref(), query, &mut faults);
        let drain_delay = self.drain_delay.map_or(DRAIN_DELAY, |span| span.0);
        if drain_delay > LONGEST_DRAIN_DELAY {
            faults.add("--drain-delay is at most 5m");
        }
        let connections = ConnectionSettings {
            max_connections: self.max_connections,
            first_request_timeout: self.first_request_timeout,
            message_memory_mib: self.message_memory_mib,
        }
        .check(&mut faults);
        let admins = admins(&self.admin.unwrap_or_default(), insecure, &mut faults);
        let authorization = authorization(self.credential_file.as_deref(), &mut faults);
        let config = authorization.map(|authorization| {
            let upstream = Upstream::Remote { admins, authorization, connector: Connector::default() };
            Config { upstream, listen, hook_listen, ops_listen, token_sources, drain_delay, connections }
        });
        faults.into_result(config)?.ok_or_else(|| anyhow::anyhow!("the configuration is incomplete"))
    }
}

/// Checks the names of the headers and of the query parameter that carry tokens. Absent headers have their default names.
/// Returns the defaults after adding a fault.
pub fn token_sources(
    bearer: Option<&str>,
    key: Option<&str>,
    query: Option<&str>,
    faults: &mut Faults,
) -> TokenSources {
    let (bearer, key) = (bearer.unwrap_or(TokenSources::BEARER_HEADER), key.unwrap_or(TokenSources::KEY_HEADER));
    TokenSources::new(bearer, key, query).unwrap_or_else(|fault| {
        faults.add(fault);
        TokenSources::default()
    })
}

/// Reads the credential. Returns `None` after adding a fault.
fn authorization(file: Option<&Path>, faults: &mut Faults) -> Option<Authorization> {
    let Some(file) = file else {
        faults.add("--credential-file is required; `keyward members create NAME --role validator` prints a credential");
        return None;
    };
    let read = Authorization::read_by(&file.display().to_string(), rereader(file));
    read.map_err(|fault| faults.add(fault)).ok()
}
