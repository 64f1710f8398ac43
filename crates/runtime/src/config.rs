//! Settings: flags, then `KEYWARD_*` environment variables, then one TOML file. All faults are reported together.

use std::convert::Infallible;
use std::fmt::{Debug, Display, Formatter};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use keyward_domain::{AddressError, Remote};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::connections::ConnectionLimits;
use crate::secret_file::{self, Holds};

/// Address of a listener: `host:port` or `unix:/path`. Port 0 takes a free port; the log shows which.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket. Its file is created; a stale file that no process listens on is replaced.
    Unix(PathBuf),
}

impl Listen {
    /// Returns `127.0.0.1:port`.
    pub const fn loopback(port: u16) -> Self {
        Self::Tcp(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port))
    }

    /// Returns `true` if only this machine can reach the listener.
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl Display for Listen {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => Display::fmt(address, f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(format!(
                    "{text}: a Unix socket needs an absolute path, such as unix:/run/keyward/hook.sock"
                ));
            }
            return Ok(Self::Unix(path.into()));
        }
        let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        numeric.as_deref().unwrap_or(text).parse().map(Self::Tcp).map_err(|_| {
            format!("{text}: an address is host:port with a numeric host, such as 127.0.0.1:8510, or unix:/path")
        })
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Parses the address of another process that receives a secret, and checks it with [`check_remote`].
///
/// # Errors
/// The rule that the address breaks, and the setting that allows it.
pub fn remote(address: &str, insecure_plaintext: bool) -> Result<Remote, String> {
    let remote: Remote = address.parse().map_err(|fault: AddressError| fault.to_string())?;
    check_remote(&remote, insecure_plaintext)?;
    Ok(remote)
}

/// Parses the addresses of admins, in the order in which they are tried. The parts of a list that are empty are left out, and
/// spaces around an address are ignored, so that `KEYWARD_ADMIN` may be written as `http://a:8510, http://b:8510`.
///
/// Adds a fault for each address that [`remote`] refuses, and one if there is no address.
pub fn admins(addresses: &[String], insecure_plaintext: bool, faults: &mut Faults) -> Vec<Remote> {
    let addresses: Vec<_> =
        addresses.iter().map(|address| address.trim()).filter(|address| !address.is_empty()).collect();
    if addresses.is_empty() {
        faults.add("--admin is required, such as --admin http://127.0.0.1:8510");
    }
    let parsed = addresses.into_iter().map(|address| remote(address, insecure_plaintext));
    parsed.filter_map(|admin| admin.map_err(|fault| faults.add(format!("--admin: {fault}"))).ok()).collect()
}

/// Checks that a secret sent to this address stays on this machine, unless `insecure_plaintext` is set.
///
/// # Errors
/// The rule that the address breaks, and the setting that allows it.
pub fn check_remote(remote: &Remote, insecure_plaintext: bool) -> Result<(), String> {
    remote.check_exposure(insecure_plaintext).map_err(|exposed| exposed_text(&exposed))
}

fn exposed_text(exposed: &impl Display) -> String {
    format!("{exposed}: set --insecure-plaintext if the network is private")
}

/// A duration as settings and flags write it: `2500ms`, `10s`, `5m`, `24h` or `7d`.
///
/// Accepts one non-negative integer and one unit (`ms`, `s`, `m`, `h`, `d`), without spaces.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Span(
    /// The parsed duration.
    pub Duration,
);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        let read = |(unit, millis): (&str, u64)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(millis).map(Duration::from_millis)
        };
        let span = UNITS.into_iter().find_map(read);
        span.map(Self).ok_or_else(|| {
            format!("{text}: a duration is a number and a unit (ms, s, m, h, d), such as 10s, 2500ms, 5m, 24h or 7d")
        })
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The value of a secret setting. `Debug` does not show it, and it is wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl SecretText {
    /// Takes the content of a file, without the trailing line breaks.
    pub fn line(content: &str) -> Self {
        Self(Zeroizing::new(content.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Returns the secret.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Debug for SecretText {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl FromStr for SecretText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

/// Returns a secret that is given either directly or as a file. Trailing line breaks of the file are dropped.
///
/// `name` is the flag without dashes, such as `database-url`; the file's flag is `--database-url-file`. Returns `None` after
/// adding a fault.
pub fn secret_or_file(
    name: &str,
    value: Option<SecretText>,
    file: Option<&Path>,
    faults: &mut Faults,
) -> Option<SecretText> {
    match (value, file) {
        (Some(_), Some(_)) => faults.add(format!("--{name} and --{name}-file exclude each other: set one of them")),
        (Some(value), None) => return Some(value),
        (None, Some(file)) => match secret_file::read_logged(file, Holds::Secret) {
            Ok(text) => return Some(SecretText::line(&text)),
            Err(error) => faults.add(error.to_string()),
        },
        (None, None) => faults.add(format!("--{name} or --{name}-file is required")),
    }
    None
}

/// All faults of a configuration, one line each.
#[derive(Debug, Default)]
pub struct Faults(Vec<String>);

impl Faults {
    /// Adds a fault.
    pub fn add(&mut self, fault: impl Into<String>) {
        self.0.push(fault.into());
    }

    /// Adds a fault if other machines can reach the listener in plaintext and `insecure_plaintext` is not set. `name` is the
    /// listener's name in the message, such as `the HTTP hook`.
    pub fn check_exposure(&mut self, name: &str, listen: &Listen, insecure_plaintext: bool) {
        if !listen.is_local() && !insecure_plaintext {
            self.add(format!(
                "{name} would listen on {listen}, which other machines can reach, without TLS: use a loopback address or a \
                 Unix socket, or set --insecure-plaintext if the network is private"
            ));
        }
    }

    /// Returns the configuration if no fault was added.
    ///
    /// # Errors
    /// All faults, in one message.
    pub fn into_result<T>(self, config: T) -> anyhow::Result<T> {
        if self.0.is_empty() {
            return Ok(config);
        }
        let faults = if self.0.len() == 1 { "fault" } else { "faults" };
        anyhow::bail!("the configuration has {} {faults}:\n  - {}", self.0.len(), self.0.join("\n  - "))
    }
}

/// The settings of connections as they are written. Absent settings have their defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionSettings {
    /// `--max-connections`: 16 to 1,000,000.
    pub max_connections: Option<usize>,
    /// `--first-request-timeout`: 1 s to 10 min.
    pub first_request_timeout: Option<Span>,
    /// `--message-memory-mib`: 32 to 65,536.
    pub message_memory_mib: Option<usize>,
}

impl ConnectionSettings {
    /// Checks the settings. Adds a fault for each value that breaks a rule, and returns the default in its place.
    pub fn check(self, faults: &mut Faults) -> ConnectionLimits {
        let mut limits = ConnectionLimits::default();
        match self.max_connections {
            Some(most @ 16..=1_000_000) => limits.most = most,
            Some(_) => faults.add("--max-connections is 16 to 1000000"),
            None => {}
        }
        match self.first_request_timeout {
            Some(Span(time)) if (Duration::from_secs(1)..=Duration::from_secs(600)).contains(&time) => {
                limits.first_request = time;
            }
            Some(_) => faults.add("--first-request-timeout is 1s to 10m"),
            None => {}
        }
        // A connection's eighth of the half that a listener of `keyward serve` has holds the largest message: 2 MiB.
        match self.message_memory_mib {
            Some(mib @ 32..=65_536) => limits.message_memory = mib << 20,
            Some(_) => faults.add("--message-memory-mib is 32 to 65536"),
            None => {}
        }
        limits
    }
}

/// Reads the TOML file of settings. Without a path, all settings are absent.
///
/// # Errors
/// The file cannot be read, is not TOML, or has a field that `T` does not have.
pub fn read_file<T: DeserializeOwned + Default>(path: Option<&Path>) -> anyhow::Result<T> {
    let Some(path) = path else { return Ok(T::default()) };
    let text = secret_file::read_logged(path, Holds::Settings)?;
    toml::from_str(&text).map_err(|error| {
        // The error's own text quotes the line, which may hold a password.
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
        anyhow::anyhow!("{}, near line {line}: {}", path.display(), error.message())
    })
}

/// Combines two structs of `Option` fields: `merge!(flags, file => Options { listen, data_dir; config })`.
///
/// The fields before the semicolon are taken from `flags`, or from `file` where `flags` has `None`. The fields after it are
/// taken from `flags`. Both lists together must name every field: a forgotten one is a compile error.
#[macro_export]
macro_rules! merge {
    ($over:ident, $under:ident => $options:ident { $($merged:ident),+ $(,)?; $($kept:ident),+ $(,)? }) => {
        $options { $($merged: $over.$merged.or($under.$merged),)+ $($kept: $over.$kept,)+ }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port_or_an_absolute_unix_path() {
        for good in ["127.0.0.1:0", "[::1]:8510", "0.0.0.0:1", "unix:/run/keyward.sock", "localhost:8510"] {
            assert!(good.parse::<Listen>().is_ok(), "{good}");
        }
        for bad in ["", "8510", "example.com:8510", "unix:relative", "127.0.0.1"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!("10s".parse(), Ok(Span(Duration::from_secs(10))));
        assert_eq!("2500ms".parse(), Ok(Span(Duration::from_millis(2_500))));
        assert_eq!("24h".parse::<Span>(), "1d".parse());
        assert_eq!("2m".parse::<Span>(), "120s".parse());
        for bad in ["", "10", "s", "ms", "-1s", "1.5s", "1w", "1 h", "99999999999999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_of_admins_ignores_spaces_and_empty_parts_and_reports_every_wrong_address() {
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let mut faults = Faults::default();
        let found = admins(&list("http://127.0.0.1:1, http://127.0.0.1:2,"), false, &mut faults);
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["http://127.0.0.1:1", "http://127.0.0.1:2"]
        );
        assert!(faults.into_result(()).is_ok());
        for (text, count) in [("", 1), (" , ", 1), ("ftp://a,http://127.0.0.1:1,b", 2)] {
            let mut faults = Faults::default();
            admins(&list(text), false, &mut faults);
            assert_eq!(faults.0.len(), count, "{text:?}: {faults:?}");
        }
    }

    #[test]
    fn the_settings_of_connections_have_limits_and_every_fault_is_reported() {
        let mut faults = Faults::default();
        let settings = ConnectionSettings {
            max_connections: Some(15),
            first_request_timeout: Some(Span(Duration::from_millis(999))),
            message_memory_mib: Some(31),
        };
        assert_eq!(settings.check(&mut faults), ConnectionLimits::default());
        assert_eq!(faults.0.len(), 3, "{faults:?}");
        let least = ConnectionSettings { message_memory_mib: Some(32), ..ConnectionSettings::default() };
        assert_eq!(least.check(&mut faults).message_memory, 32 << 20);
        assert_eq!(faults.0.len(), 3, "{faults:?}");
    }

    #[test]
    fn all_faults_are_reported_together_and_exposure_needs_the_setting() {
        let exposed = Listen::Tcp(SocketAddr::from(([0, 0, 0, 0], 1)));
        let mut faults = Faults::default();
        faults.check_exposure("the hook", &exposed, false);
        faults.check_exposure("the API", &exposed, true);
        faults.check_exposure("the API", &Listen::loopback(1), false);
        faults.add("another");
        let text = faults.into_result(()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            text.starts_with("the configuration has 2 faults:") && text.contains("the hook would listen on 0.0.0.0:1")
        );
    }
}
