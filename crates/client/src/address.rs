use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{AddressError, Exposed, Remote};
use keyward_sync::{Authorization, Connector, ReadCredential, Upstream, is_validator_id};
use tonic::transport::Endpoint;
use zeroize::Zeroizing;

/// Default of [`Validators::timeout`]: the timeout of the gateways in `deploy/`.
const TIMEOUT: Duration = Duration::from_millis(250);

/// Timeout of connecting to a validator.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a client cannot be created.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The list of addresses is empty.
    #[error("no address: give one or more, such as http://127.0.0.1:8520 or unix:/run/keyward/grpc.sock")]
    NoAddress,
    /// An address breaks a rule, which the error names.
    #[error("{0}, or unix:/path for a validator on this machine")]
    Address(#[from] AddressError),
    /// The path of a Unix socket is invalid.
    #[error(
        "the path of a Unix socket is absolute, such as unix:/run/keyward/grpc.sock, and has no user, query or fragment"
    )]
    Socket,
    /// Tokens, or the credential, would cross a network in plaintext.
    #[error("{0}: call insecure_plaintext() if the network is private")]
    Plaintext(#[from] Exposed),
    /// The credential is malformed. The error does not contain it.
    #[error("the credential is malformed: use the one that `keyward members create --role validator` prints")]
    Credential,
    /// The credential could not be read, or is malformed. The error does not contain it.
    #[error("{0}")]
    CredentialSource(String),
    /// The name of the process is invalid.
    #[error("{0}: the name of a process must be 1 to 64 letters, digits and hyphens")]
    Name(String),
    /// The id of a project is invalid. The error names the rule.
    #[error("{0}")]
    Project(String),
    /// The client was created outside a tokio runtime.
    #[error("create the client within a tokio runtime: it spawns background tasks")]
    NoRuntime,
}

/// The validators to call, and the timeout of a validation.
#[derive(Clone, Debug)]
pub struct Validators {
    addresses: Vec<String>,
    timeout: Duration,
    insecure_plaintext: bool,
}

/// The admins that feed an embedded replica, and the credential for them.
#[derive(Clone)]
pub struct Admins {
    addresses: Vec<String>,
    credential: Credential,
    name: Option<String>,
    insecure_plaintext: bool,
}

/// The source of the credential of an embedded replica.
#[derive(Clone)]
enum Credential {
    /// A fixed credential, parsed.
    Given(Result<Authorization, ConfigError>),
    /// A function that reads the credential, called whenever it may have changed.
    Read(Arc<ReadCredential>),
}

// === impl Validators ===

impl Validators {
    /// Sets the gRPC addresses of one or more validators, such as `http://127.0.0.1:8520` or `unix:/run/keyward/grpc.sock`.
    /// One is used as long as it answers; then the next one.
    pub fn at<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        let addresses = addresses.into_iter().map(Into::into).collect();
        Self { addresses, timeout: TIMEOUT, insecure_plaintext: false }
    }

    /// Sets how long the validation of a token may take, including a second attempt at another validator. Default: 250 ms.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Allows validators on other machines, to which tokens travel in plaintext. For private networks only.
    #[must_use]
    pub const fn insecure_plaintext(mut self) -> Self {
        self.insecure_plaintext = true;
        self
    }

    pub(crate) const fn request_timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns the checked addresses. At least one.
    pub(crate) fn endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        if self.addresses.is_empty() {
            return Err(ConfigError::NoAddress);
        }
        self.addresses.iter().map(|address| self.endpoint(address)).collect()
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, ConfigError> {
        let address = match address.strip_prefix("unix:") {
            Some(path) if !path.starts_with('/') || path.starts_with("//") || path.contains(['?', '#', '@']) => {
                return Err(ConfigError::Socket);
            }
            Some(_) => address.to_owned(),
            None => checked(address, self.insecure_plaintext)?.to_string(),
        };
        let endpoint = Endpoint::from_shared(address).map_err(|_| ConfigError::Socket)?;
        // Keepalive detects a silently broken connection; otherwise one request after another would time out on it.
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(2))
            .tcp_nodelay(true))
    }
}

// === impl Admins ===

impl std::fmt::Debug for Admins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admins").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Admins {
    /// Sets the gRPC addresses of one or more admins, such as `http://127.0.0.1:8510`, and the credential of a member with role
    /// validator, which `keyward members create NAME --role validator` prints.
    pub fn at<A: Into<String>>(addresses: impl IntoIterator<Item = A>, credential: &str) -> Self {
        let given = Authorization::fixed(credential.trim()).map_err(|_| ConfigError::Credential);
        Self::new(addresses, Credential::Given(given))
    }

    /// Sets the addresses as [`Admins::at`] does, and a function that reads the credential, such as from a file, so that it can
    /// be rotated without a restart. The function is called at the start, before each session, and after a refusal. It may
    /// block. A line break after the credential is ignored. If it fails or returns a malformed credential, that is logged and
    /// the previous credential stays in use. Its error must not contain the credential.
    ///
    /// ```no_run
    /// # use keyward_client::Admins;
    /// let admins = Admins::reading(["http://127.0.0.1:8510"], || std::fs::read_to_string("my_service.credential"));
    /// ```
    pub fn reading<A: Into<String>, E: std::fmt::Display>(
        addresses: impl IntoIterator<Item = A>,
        read: impl Fn() -> Result<String, E> + Send + Sync + 'static,
    ) -> Self {
        let read =
            move || read().map(Zeroizing::new).map_err(|error| format!("the credential cannot be read: {error}"));
        Self::new(addresses, Credential::Read(Arc::new(read)))
    }

    fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>, credential: Credential) -> Self {
        let addresses = addresses.into_iter().map(Into::into).collect();
        Self { addresses, credential, name: None, insecure_plaintext: false }
    }

    /// Sets the name of this process in the logs of admins. It must be unique: 1 to 64 letters, digits and hyphens. Default: a
    /// random id.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Allows admins on other machines, to which the credential travels in plaintext. For private networks only.
    #[must_use]
    pub const fn insecure_plaintext(mut self) -> Self {
        self.insecure_plaintext = true;
        self
    }

    pub(crate) fn upstream(&self) -> Result<Upstream, ConfigError> {
        if self.addresses.is_empty() {
            return Err(ConfigError::NoAddress);
        }
        let admins = self.addresses.iter().map(|address| checked(address, self.insecure_plaintext));
        let admins = admins.collect::<Result<_, _>>()?;
        let authorization = match &self.credential {
            Credential::Given(given) => given.clone()?,
            Credential::Read(read) => {
                let read = Arc::clone(read);
                Authorization::read_by("the credential", move || read()).map_err(ConfigError::CredentialSource)?
            }
        };
        if let Some(name) = self.name.as_deref().filter(|name| !is_validator_id(name)) {
            return Err(ConfigError::Name(name.to_owned()));
        }
        Ok(Upstream::Remote { admins, authorization, connector: Connector::default() })
    }

    pub(crate) fn validator_id(&self) -> String {
        self.name.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
    }
}

/// Parses a TCP address, and checks that a secret may be sent to it.
fn checked(address: &str, insecure_plaintext: bool) -> Result<Remote, ConfigError> {
    let remote: Remote = address.parse()?;
    remote.check_exposure(insecure_plaintext)?;
    Ok(remote)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A well-formed credential, in two pieces so that no line of this file looks like a live one.
    fn credential() -> String {
        format!("kwm_{}{}", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg", "02yAN1")
    }

    fn exposed(address: &str) -> Exposed {
        let remote: Remote = address.parse().unwrap();
        remote.check_exposure(false).unwrap_err()
    }

    fn fault(address: &str) -> Option<ConfigError> {
        Validators::at([address]).endpoints().err()
    }

    #[test]
    fn addresses_are_checked_and_plaintext_to_other_machines_must_be_allowed() {
        for good in ["http://127.0.0.1:8520", "http://localhost:8520", "http://[::1]:8520", "unix:/run/k/grpc.sock"] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in ["", "127.0.0.1:8520", "http://127.0.0.1", "https://127.0.0.1:8520", "ftp://127.0.0.1:8520"] {
            assert!(matches!(fault(bad), Some(ConfigError::Address(_))), "{bad}");
        }
        for bad in ["unix:relative", "unix:", "unix:///run/k.sock", "unix:/run/k.sock?a", "unix:/u:hunter2@h/k.sock"] {
            assert_eq!(fault(bad), Some(ConfigError::Socket), "{bad}");
        }
        for bad in ["http://u:hunter2@127.0.0.1:8520", "http://127.0.0.1:8520/hunter2", "http://127.0.0.1:0"] {
            let fault = fault(bad).map(|fault| format!("{fault} {fault:?}")).unwrap_or_default();
            assert!(fault.contains("an address is http://host:port") && !fault.contains("hunter2"), "{bad}: {fault}");
        }
        let away = "http://validator.internal:8520";
        let exposed = Some(ConfigError::Plaintext(exposed(away)));
        assert_eq!(fault(away), exposed);
        assert!(Validators::at([away]).insecure_plaintext().endpoints().is_ok());
        assert_eq!(Validators::at(Vec::<String>::new()).endpoints().err(), Some(ConfigError::NoAddress));
        let admins = Admins::at([away], &credential());
        assert_eq!(admins.upstream().err(), exposed);
        let admins = admins.insecure_plaintext();
        assert!(admins.upstream().is_ok());
        assert!(admins.clone().named("my-service-1").upstream().is_ok());
        assert_eq!(admins.named("my_service").upstream().err(), Some(ConfigError::Name("my_service".to_owned())));
    }

    #[test]
    fn no_error_and_no_debug_output_contains_a_credential() {
        let admins = Admins::at(["http://127.0.0.1:8510"], "hunter2\n3");
        assert_eq!(admins.upstream().err(), Some(ConfigError::Credential));
        for bad in ["", "hello", "\u{feff}kwm_", "kwm_hunter2"] {
            let admins = Admins::at(["http://127.0.0.1:8510"], bad);
            assert_eq!(admins.upstream().err(), Some(ConfigError::Credential), "{bad}");
            let admins = Admins::reading(["http://127.0.0.1:8510"], || Ok::<_, std::io::Error>(bad.to_owned()));
            let fault = admins.upstream().err().map(|fault| format!("{fault} {fault:?}")).unwrap_or_default();
            assert!(fault.starts_with("the credential ") && !fault.contains("hunter"), "{bad}: {fault}");
        }
        assert!(!format!("{admins:?} {}", ConfigError::Credential).contains("hunter"));
    }
}
