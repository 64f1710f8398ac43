//! Settings: flags, then `KEYWARD_*` environment variables, then one TOML file. All faults are told together.

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

use crate::secret_file::{self, Holds};

/// Where a listener listens: `host:port` (port 0: any free one, which the log names) or `unix:/path`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket; its file is made, and an old one that nobody listens on is replaced.
    Unix(PathBuf),
}

impl Listen {
    /// Port `port` of the loopback interface.
    pub const fn loopback(port: u16) -> Self {
        Self::Tcp(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port))
    }

    /// Whether only this machine can reach it.
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
                return Err(format!("{text}: a Unix socket needs an absolute path, as unix:/run/keyward/hook.sock"));
            }
            return Ok(Self::Unix(path.into()));
        }
        let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        numeric.as_deref().unwrap_or(text).parse().map(Self::Tcp).map_err(|_| {
            format!("{text}: an address is host:port with a numeric host, as 127.0.0.1:8510, or unix:/path")
        })
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The address of another process to which a secret is sent, checked: that it is one, and that the secret stays on this
/// machine unless `insecure_plaintext`.
///
/// # Errors
/// The rule that is broken, and the setting that allows it.
pub fn remote(address: &str, insecure_plaintext: bool) -> Result<Remote, String> {
    let remote: Remote = address.parse().map_err(|fault: AddressError| fault.to_string())?;
    check_remote(&remote, insecure_plaintext)?;
    Ok(remote)
}

/// Decides whether a secret may be sent to an address.
///
/// # Errors
/// The rule that is broken, and the setting that allows it.
pub fn check_remote(remote: &Remote, insecure_plaintext: bool) -> Result<(), String> {
    remote.check_exposure(insecure_plaintext).map_err(|exposed| exposed_text(&exposed))
}

fn exposed_text(exposed: &impl Display) -> String {
    format!("{exposed}: say --insecure-plaintext if the network is private")
}

/// A length of time as settings write it: `2500ms`, `10s`, `5m`, `24h` or `7d`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Span(
    /// The length.
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
        span.map(Self).ok_or_else(|| format!("{text}: a length of time is written 10s or 2500ms, 5m, 24h or 7d"))
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A setting that must appear in no log and no error. Wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl SecretText {
    /// The content of a file, of which the last line break does not count.
    pub fn line(content: &str) -> Self {
        Self(Zeroizing::new(content.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// What it is.
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

/// A secret that is either said or in a file, of which the last line break does not count. `name`: the setting's flag.
pub fn secret_or_file(
    name: &str,
    said: Option<SecretText>,
    file: Option<&Path>,
    faults: &mut Faults,
) -> Option<SecretText> {
    match (said, file) {
        (Some(_), Some(_)) => faults.add(format!("say either --{name} or --{name}-file")),
        (Some(said), None) => return Some(said),
        (None, Some(file)) => match secret_file::read_logged(file, Holds::Secret) {
            Ok(text) => return Some(SecretText::line(&text)),
            Err(error) => faults.add(error.to_string()),
        },
        (None, None) => faults.add(format!("no --{name}, and no --{name}-file")),
    }
    None
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Debug, Default)]
pub struct Faults(Vec<String>);

impl Faults {
    /// Notes one.
    pub fn add(&mut self, fault: impl Into<String>) {
        self.0.push(fault.into());
    }

    /// Notes a listener that others could reach in plaintext, unless that was asked for aloud.
    pub fn check_exposure(&mut self, what: &str, listen: &Listen, insecure_plaintext: bool) {
        if !listen.is_local() && !insecure_plaintext {
            self.add(format!(
                "{what} listens on {listen}, beyond this machine, without TLS: use a loopback address or a Unix socket, \
                 or say --insecure-plaintext if the network is private"
            ));
        }
    }

    /// The configuration, if nothing is wrong with it.
    ///
    /// # Errors
    /// All faults, in one message.
    pub fn into_result<T>(self, config: T) -> anyhow::Result<T> {
        if self.0.is_empty() {
            return Ok(config);
        }
        anyhow::bail!("the configuration has {} faults:\n  - {}", self.0.len(), self.0.join("\n  - "))
    }
}

/// Reads the TOML file; none: all settings absent. The type refuses unknown fields.
///
/// # Errors
/// The file cannot be read, or says something that it must not.
pub fn read_file<T: DeserializeOwned + Default>(path: Option<&Path>) -> anyhow::Result<T> {
    let Some(path) = path else { return Ok(T::default()) };
    let text = secret_file::read_logged(path, Holds::Settings)?;
    toml::from_str(&text).map_err(|error| {
        // Not the error's own text: it quotes the line, which may hold a password.
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
        anyhow::anyhow!("{}, near line {line}: {}", path.display(), error.message())
    })
}

/// Fills every absent `Option` field of `$over` from `$under`: `merge!(flags, file, [listen, data_dir])`.
#[macro_export]
macro_rules! merge {
    ($over:expr, $under:expr, [$($field:ident),* $(,)?]) => {
        $( if $over.$field.is_none() { $over.$field = $under.$field; } )*
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
    fn lengths_of_time_have_a_unit() {
        assert_eq!("10s".parse(), Ok(Span(Duration::from_secs(10))));
        assert_eq!("2500ms".parse(), Ok(Span(Duration::from_millis(2_500))));
        assert_eq!("24h".parse::<Span>(), "1d".parse());
        assert_eq!("2m".parse::<Span>(), "120s".parse());
        for bad in ["", "10", "s", "ms", "-1s", "1.5s", "1w", "1 h", "99999999999999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_fault_is_told_at_once_and_exposure_needs_to_be_said_aloud() {
        let exposed = Listen::Tcp(SocketAddr::from(([0, 0, 0, 0], 1)));
        let mut faults = Faults::default();
        faults.check_exposure("the hook", &exposed, false);
        faults.check_exposure("the API", &exposed, true);
        faults.check_exposure("the API", &Listen::loopback(1), false);
        faults.add("another");
        let text = faults.into_result(()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.starts_with("the configuration has 2 faults:") && text.contains("the hook listens on 0.0.0.0:1"));
    }
}
