use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use keyward_domain::{Remote, TokenSources};
use keyward_runtime::config::{Faults, Listen, Span, read_file, remote};
use keyward_runtime::merge;
use keyward_runtime::secret_file::rereader;
use keyward_sync::{Authorization, Connector, Upstream};
use serde::Deserialize;

/// Longer than a gateway's health check takes to notice: those in deploy/ look once a second.
const DRAIN_DELAY: Duration = Duration::from_secs(3);

const LONGEST_DRAIN_DELAY: Duration = Duration::from_secs(300);

/// The validator's settings as they may be written: flags, then environment, then the TOML file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Address of an admin, as http://127.0.0.1:8510. Repeatable; the next one is tried when one fails.
    #[arg(long, env = "KEYWARD_ADMIN", value_delimiter = ',', value_name = "URL", hide_env_values = true)]
    pub admin: Option<Vec<String>>,
    /// File that holds the credential of a member with role validator.
    #[arg(long, env = "KEYWARD_CREDENTIAL_FILE", value_name = "FILE")]
    pub credential_file: Option<PathBuf>,
    /// Where gRPC (ValidateToken, Envoy's Check) is served. Default: 127.0.0.1:8520.
    #[arg(long, env = "KEYWARD_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<Listen>,
    /// Where the HTTP hook is served. Default: 127.0.0.1:8521.
    #[arg(long, env = "KEYWARD_HOOK_LISTEN", value_name = "ADDRESS")]
    pub hook_listen: Option<Listen>,
    /// Where /livez, /readyz and /metrics are served. Default: 127.0.0.1:8529.
    #[arg(long, env = "KEYWARD_OPS_LISTEN", value_name = "ADDRESS")]
    pub ops_listen: Option<Listen>,
    /// Header that carries Bearer and a token. Default: authorization.
    #[arg(long, env = "KEYWARD_BEARER_HEADER", value_name = "NAME")]
    pub bearer_header: Option<String>,
    /// Header that carries a bare token. Default: x-api-key.
    #[arg(long, env = "KEYWARD_KEY_HEADER", value_name = "NAME")]
    pub key_header: Option<String>,
    /// Parameter of the client's query that may carry a token, as key. Queries end up in logs and histories. Default: none.
    #[arg(long, env = "KEYWARD_QUERY_PARAMETER", value_name = "NAME")]
    pub query_parameter: Option<String>,
    /// How long to go on answering after SIGTERM while health checks hear NOT_SERVING, so that gateways ask another
    /// validator before this one closes its connections. A second signal ends the wait. Default: 3s.
    #[arg(long, env = "KEYWARD_DRAIN_DELAY", value_name = "DURATION")]
    pub drain_delay: Option<Span>,
    /// Allows addresses beyond this machine without TLS. For private networks only.
    #[arg(long, env = "KEYWARD_INSECURE_PLAINTEXT", num_args = 0..=1, default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new())]
    pub insecure_plaintext: Option<bool>,
    /// TOML file with these settings, named as the flags with underscores.
    #[arg(long, env = "KEYWARD_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// The validator's settings, checked.
#[derive(Debug)]
pub struct Config {
    /// Where it is fed from.
    pub upstream: Upstream,
    /// Where gRPC is served.
    pub listen: Listen,
    /// Where the HTTP hook is served.
    pub hook_listen: Listen,
    /// Where probes and metrics are served.
    pub ops_listen: Listen,
    /// Where gateways' requests carry tokens.
    pub places: TokenSources,
    /// From the signal to leave until it is followed.
    pub drain_delay: Duration,
}

impl Options {
    /// Fills in the file and the defaults, and checks everything.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn resolve(mut self) -> anyhow::Result<Config> {
        let file: Self = read_file(self.config.as_deref())?;
        merge!(
            self,
            file,
            [
                admin,
                credential_file,
                listen,
                hook_listen,
                ops_listen,
                bearer_header,
                key_header,
                query_parameter,
                drain_delay,
                insecure_plaintext,
            ]
        );
        let insecure = self.insecure_plaintext.unwrap_or(false);
        let mut faults = Faults::default();
        let listen = self.listen.unwrap_or(Listen::loopback(8520));
        let hook_listen = self.hook_listen.unwrap_or(Listen::loopback(8521));
        let ops_listen = self.ops_listen.unwrap_or(Listen::loopback(8529));
        faults.check_exposure("the validator", &listen, insecure);
        faults.check_exposure("the HTTP hook", &hook_listen, insecure);
        faults.check_exposure("the ops listener", &ops_listen, insecure);
        let query = self.query_parameter.as_deref();
        let places = places(self.bearer_header.as_deref(), self.key_header.as_deref(), query, &mut faults);
        let drain_delay = self.drain_delay.map_or(DRAIN_DELAY, |span| span.0);
        if drain_delay > LONGEST_DRAIN_DELAY {
            faults.add("--drain-delay is at most 5m");
        }
        let admins = admins(&self.admin.unwrap_or_default(), insecure, &mut faults);
        let authorization = authorization(self.credential_file.as_deref(), &mut faults);
        let config = authorization.map(|authorization| {
            let upstream = Upstream::Remote { admins, authorization, connector: Connector::default() };
            Config { upstream, listen, hook_listen, ops_listen, places, drain_delay }
        });
        faults.into_result(config)?.ok_or_else(|| anyhow::anyhow!("the configuration is incomplete"))
    }
}

/// Where requests carry tokens, as the settings of these names say; the defaults once a fault is noted.
pub fn places(bearer: Option<&str>, key: Option<&str>, query: Option<&str>, faults: &mut Faults) -> TokenSources {
    let (bearer, key) = (bearer.unwrap_or(TokenSources::BEARER_HEADER), key.unwrap_or(TokenSources::KEY_HEADER));
    TokenSources::new(bearer, key, query).unwrap_or_else(|fault| {
        faults.add(fault);
        TokenSources::default()
    })
}

fn admins(addresses: &[String], insecure: bool, faults: &mut Faults) -> Vec<Remote> {
    if addresses.is_empty() {
        faults.add("no admin: say --admin http://127.0.0.1:8510");
    }
    let mut admins = Vec::new();
    for address in addresses {
        match remote(address, insecure) {
            Ok(admin) => admins.push(admin),
            Err(fault) => faults.add(format!("--admin: {fault}")),
        }
    }
    admins
}

/// The credential in the file; `None` once a fault is noted.
fn authorization(file: Option<&Path>, faults: &mut Faults) -> Option<Authorization> {
    let Some(file) = file else {
        faults.add("no credential: say --credential-file; `keyward members create` makes one");
        return None;
    };
    let read = Authorization::read_by(&file.display().to_string(), rereader(file));
    read.map_err(|fault| faults.add(fault)).ok()
}
