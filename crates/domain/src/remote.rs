//! Addresses of other processes. Secrets are sent to them in plaintext, because Keyward has no TLS yet.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The longest host name (RFC 1035 §2.3.4), in bytes.
const LONGEST_HOST: usize = 253;

/// The longest piece of a refused address that an error repeats, in characters.
const LONGEST_SHOWN: usize = 100;

/// A TCP address of another process: `http://host:port` with a name, an IPv4 address or an IPv6 address in brackets.
///
/// `Display` writes the same form again, with the host in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remote {
    /// The host as in a URL: an IPv6 address is in brackets.
    host: String,
    port: u16,
}

/// Why a text is not a [`Remote`]. Never holds the user part, the path or the query of the text: each may be a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressError {
    shown: String,
    rule: AddressRule,
}

/// An address beyond this machine, where a secret would be readable on the way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exposed(Remote);

/// A rule that an address must satisfy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum AddressRule {
    NoScheme,
    Tls,
    OtherScheme,
    User,
    Path,
    Query,
    NoHost,
    Host,
    NoPort,
    Port,
}

/// Returns `true` if a host is this machine by its spelling: `localhost` or a loopback address, with or without the
/// brackets of a URL. Other names are not resolved.
pub fn is_local(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

// === impl Remote ===

impl Remote {
    /// Parses the address of this process that other processes will use. Its port may be 0, which stands for the port that this
    /// process listens on; [`with_port`](Self::with_port) fills it in.
    ///
    /// # Errors
    /// [`AddressError`]: the rule that the text breaks.
    pub fn advertised(text: &str) -> Result<Self, AddressError> {
        parse(text, 0).map_err(|rule| AddressError { shown: shown(text), rule })
    }

    /// The port; 0 only where [`advertised`](Self::advertised) allows it.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The host and the port, as in `admin.internal:8510` and `[::1]:8510`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The same host with another port.
    #[must_use]
    pub fn with_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Returns `true` if the host is this machine; see [`is_local`].
    pub fn is_local(&self) -> bool {
        is_local(&self.host)
    }

    /// Checks that a secret may be sent to this address in plaintext: to this machine always, elsewhere only with
    /// `insecure_plaintext`, by which the operator declares the network private.
    ///
    /// # Errors
    /// [`Exposed`]: the address is beyond this machine.
    pub fn check_exposure(&self, insecure_plaintext: bool) -> Result<(), Exposed> {
        if insecure_plaintext || self.is_local() { Ok(()) } else { Err(Exposed(self.clone())) }
    }
}

impl FromStr for Remote {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text, 1).map_err(|rule| AddressError { shown: shown(text), rule })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

/// Parses an address whose port is at least `lowest_port`.
fn parse(text: &str, lowest_port: u16) -> Result<Remote, AddressRule> {
    let (scheme, rest) = text.split_once("://").ok_or(AddressRule::NoScheme)?;
    // Checked first: text around an `@` may be a secret, and must not be taken for a host or a port.
    if text.contains('@') {
        return Err(AddressRule::User);
    }
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => return Err(AddressRule::Tls),
        _ => return Err(AddressRule::OtherScheme),
    }
    let (authority, below) = rest.split_at(rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len()));
    match below {
        // A path of `/` equals an empty path (RFC 3986 §6.2.3); earlier versions published their address with it.
        "" | "/" => {}
        _ if below.starts_with(['?', '#']) => return Err(AddressRule::Query),
        _ => return Err(AddressRule::Path),
    }
    let (host, port) = split_port(authority)?;
    let port = port.filter(|port| !port.is_empty()).ok_or(AddressRule::NoPort)?;
    // `u16::from_str` accepts a leading `+`.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port >= lowest_port).ok_or(AddressRule::Port)?;
    Ok(Remote { host, port })
}

/// Splits an authority into the checked host and the text after its colon.
fn split_port(authority: &str) -> Result<(String, Option<&str>), AddressRule> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (ip, rest) = bracketed.split_once(']').ok_or(AddressRule::Host)?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| AddressRule::Host)?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(AddressRule::Host)?) };
        return Ok((format!("[{ip}]"), port));
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    if host.is_empty() {
        return Err(AddressRule::NoHost);
    }
    // RFC 1123 has no underscore in host names, but container engines generate names with it.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.len() > LONGEST_HOST || !host.bytes().all(plain) {
        return Err(AddressRule::Host);
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// The part of a refused address that an error may repeat: nothing before its last `@`, nothing of its path and query, and
/// nothing at all of a text that does not look like an address, because it may be a secret in the wrong option.
fn shown(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    let scheme = scheme.filter(|scheme| scheme.len() <= 10 && scheme.bytes().all(|b| b.is_ascii_alphanumeric()));
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("…@", rest));
    let (authority, below) = rest.split_at(rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len()));
    let looks_like_one = authority.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
        && (scheme.is_some() || authority.contains([':', '.']));
    if !looks_like_one || authority.len() > LONGEST_SHOWN {
        return "the address".to_owned();
    }
    let below = if below.is_empty() { "" } else { "/…" };
    format!("{}{user}{authority}{below}", scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default())
}

// === impl AddressError ===

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.rule {
            AddressRule::NoScheme => "the scheme is missing",
            AddressRule::Tls => "https is refused, because Keyward has no TLS yet and would send secrets in plaintext",
            AddressRule::OtherScheme => "the scheme must be http",
            AddressRule::User => "a user or a password has no place in an address",
            AddressRule::Path => "a path has no place in an address",
            AddressRule::Query => "a query or a fragment has no place in an address",
            AddressRule::NoHost => "the host is missing",
            AddressRule::Host => "the host must be a name, an IPv4 address, or an IPv6 address in brackets",
            AddressRule::NoPort => "the port is missing",
            AddressRule::Port => "the port must be a number from 1 to 65535",
        };
        write!(f, "{}: {rule}; an address is http://host:port, such as http://127.0.0.1:8510", self.shown)
    }
}

impl std::error::Error for AddressError {}

// === impl Exposed ===

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is beyond this machine, and secrets would travel there in plaintext", self.0)
    }
}

impl std::error::Error for Exposed {}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A secret that errors must not repeat.
    const SECRET: &str = "hunter2";

    #[test]
    fn an_address_is_http_with_a_host_and_a_port() {
        for (good, written) in [
            ("http://127.0.0.1:8510", "http://127.0.0.1:8510"),
            ("http://127.0.0.1:8510/", "http://127.0.0.1:8510"),
            ("HTTP://LocalHost:1", "http://localhost:1"),
            ("http://admin_1.internal:65535", "http://admin_1.internal:65535"),
            ("http://[::1]:8510", "http://[::1]:8510"),
            ("http://[0:0:0:0:0:0:0:1]:8510", "http://[::1]:8510"),
        ] {
            assert_eq!(good.parse::<Remote>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn other_addresses_are_refused_with_the_rule_and_without_their_secrets() {
        let long = format!("http://{}:1", "a".repeat(254));
        for (bad, rule) in [
            ("", AddressRule::NoScheme),
            ("127.0.0.1:8510", AddressRule::NoScheme),
            ("hunter2", AddressRule::NoScheme),
            ("https://127.0.0.1:8510", AddressRule::Tls),
            ("HTTPS://127.0.0.1:8510", AddressRule::Tls),
            ("ftp://127.0.0.1:8510", AddressRule::OtherScheme),
            ("unix:///run/keyward.sock", AddressRule::OtherScheme),
            (" http://127.0.0.1:8510", AddressRule::OtherScheme),
            ("http://hunter2@127.0.0.1:8510", AddressRule::User),
            ("http://u:hunter2@127.0.0.1:8510", AddressRule::User),
            ("http://u:hunter2/@127.0.0.1:8510", AddressRule::User),
            ("http://u:hunter2?@127.0.0.1:8510", AddressRule::User),
            ("https://u:hunter2@127.0.0.1:8510", AddressRule::User),
            ("http://127.0.0.1:8510/hunter2", AddressRule::Path),
            ("http://127.0.0.1:8510//", AddressRule::Path),
            ("http://127.0.0.1:8510\\hunter2", AddressRule::Path),
            ("http://127.0.0.1:8510?hunter2", AddressRule::Query),
            ("http://127.0.0.1:8510#hunter2", AddressRule::Query),
            ("http://", AddressRule::NoHost),
            ("http://:8510", AddressRule::NoHost),
            ("http://a b:8510", AddressRule::Host),
            ("http://ä:8510", AddressRule::Host),
            ("http://a%62:8510", AddressRule::Host),
            ("http://::1:8510", AddressRule::NoHost),
            ("http://[::1:8510", AddressRule::Host),
            ("http://[::1]8510", AddressRule::Host),
            ("http://[127.0.0.1]:8510", AddressRule::Host),
            ("http://[fe80::1%25eth0]:8510", AddressRule::Host),
            (&long, AddressRule::Host),
            ("http://127.0.0.1", AddressRule::NoPort),
            ("http://127.0.0.1:", AddressRule::NoPort),
            ("http://[::1]", AddressRule::NoPort),
            ("http://127.0.0.1:0", AddressRule::Port),
            ("http://127.0.0.1:65536", AddressRule::Port),
            ("http://127.0.0.1:+80", AddressRule::Port),
            ("http://127.0.0.1:80 ", AddressRule::Port),
            ("http://127.0.0.1:1:2", AddressRule::Port),
        ] {
            let error = bad.parse::<Remote>().unwrap_err();
            assert_eq!(error.rule, rule, "{bad}");
            assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
        }
    }

    #[test]
    fn an_advertised_address_may_leave_its_port_open() {
        let open = Remote::advertised("http://127.0.0.1:0").unwrap();
        assert_eq!(open.port(), 0);
        assert_eq!(open.with_port(8510).to_string(), "http://127.0.0.1:8510");
        assert!(Remote::advertised("https://127.0.0.1:0").is_err());
    }

    #[test]
    fn only_the_names_of_this_machine_are_local() {
        for local in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "::ffff:127.0.0.1"] {
            assert!(is_local(local), "{local}");
        }
        for away in ["", "0.0.0.0", "::", "10.0.0.1", "127.1", "2130706433", "localhost.", "localhost.a", "a,localhost"]
        {
            assert!(!is_local(away), "{away}");
        }
        let away: Remote = "http://10.0.0.1:8510".parse().unwrap();
        assert_eq!(away.check_exposure(false), Err(Exposed(away.clone())));
        assert_eq!(away.check_exposure(true), Ok(()));
    }
}
