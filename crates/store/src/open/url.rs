//! PostgreSQL URLs: parameters that the driver would ignore, and a form of libpq that the driver does not read.

use std::borrow::Cow;

use sea_orm::sqlx::postgres::PgConnectOptions;

/// The parameters of a PostgreSQL URL that sqlx knows. sqlx logs an unknown parameter with its value, which may be a password
/// after a misspelt `password`.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Parameters of libpq by which a client chooses among several servers.
const CHOICE: [&str; 2] = ["target_session_attrs", "load_balance_hosts"];

/// Why a database URL must not be used. Of the URL, it contains the host or the name of a parameter at most.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// The URL cannot be parsed. The driver's text repeats neither the user, the host nor the path of the URL.
    #[error("cannot open the database: its URL cannot be read: {0}")]
    Malformed(String),
    /// The URL has a parameter that the driver does not know and would ignore.
    #[error("the database URL has the unknown parameter {0}")]
    Parameter(String),
    /// The URL, `PGHOST` or `PGPORT` names several servers to choose from.
    #[error(
        "the database URL (or PGHOST or PGPORT) names several servers, or has {}, and Keyward connects to one address: name one that \
         always leads to the server that accepts writes, which is a virtual IP address, a proxy with a health check of the \
         primary (HAProxy before Patroni), or a pooler in session mode (docs/database.md)",
        CHOICE.join(" or ")
    )]
    SeveralServers,
    /// The password could be read in transit, or be sent to another server.
    #[error(
        "the database at {0} is beyond this machine, and its URL allows a connection without a verified certificate, to \
         which the password and all data would be exposed: add sslmode=verify-full (with sslrootcert=FILE for a CA of your \
         own) to the URL, or pass --insecure-plaintext if the network is private"
    )]
    Exposed(String),
}

/// Returns `true` for the URL of a PostgreSQL database.
pub(crate) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Checks a PostgreSQL URL, and returns it in a form that the driver reads. libpq accepts a user without a host, such as
/// `postgres://user:password@/db?host=/run/postgresql`; the driver does not, and gets the user as parameters.
///
/// # Errors
/// [`UrlError`]: a parameter that the driver would ignore, or several servers.
pub(crate) fn for_driver(url: &str) -> Result<Cow<'_, str>, UrlError> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    // As in RFC 3986 and in the driver: what precedes the last @ is the user.
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if has_comma(host) {
        return Err(UrlError::SeveralServers);
    }
    check_parameters(query)?;
    if !(host.is_empty() || host.starts_with(':')) || authority.is_empty() || fragment.is_some() {
        return Ok(Cow::Borrowed(url));
    }
    let (name, password) = user
        .unwrap_or_default()
        .split_once(':')
        .map_or((user.unwrap_or_default(), None), |(name, password)| (name, Some(password)));
    let mut parameters = Vec::new();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            // In a query, & separates parameters and + is a space.
            parameters.push(format!("{key}={}", value.replace('&', "%26").replace('+', "%2B")));
        }
    };
    add("user", name);
    add("password", password.unwrap_or_default());
    add("port", host.strip_prefix(':').unwrap_or_default());
    // Last, because the last of two equal parameters holds, as in libpq.
    parameters.extend((!query.is_empty()).then(|| query.to_owned()));
    let path = if path.is_empty() { "/" } else { path };
    Ok(Cow::Owned(format!("{scheme}://{path}?{}", parameters.join("&"))))
}

/// Returns the options that the driver derives from a URL and from the environment.
///
/// # Errors
/// [`UrlError`], also if `PGHOST` or `PGPORT` names several servers.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions, UrlError> {
    let url = for_driver(url)?;
    check_port(&url, std::env::var("PGPORT").ok().as_deref())?;
    let options = url.parse::<PgConnectOptions>().map_err(|error| UrlError::Malformed(error.to_string()))?;
    if options.get_host().contains(',') { Err(UrlError::SeveralServers) } else { Ok(options) }
}

/// Refuses a `PGPORT` that lists several ports, unless the URL has a port. The driver would ignore the list, and connect to the
/// port 5432.
fn check_port(url: &str, environment: Option<&str>) -> Result<(), UrlError> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| is_port(port))
        || query
            .split('&')
            .any(|pair| pair.split_once('=').is_some_and(|(name, port)| name == "port" && is_port(port)));
    if !has_port && environment.is_some_and(|ports| ports.contains(',')) {
        return Err(UrlError::SeveralServers);
    }
    Ok(())
}

fn check_parameters(query: &str) -> Result<(), UrlError> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if CHOICE.contains(&name) || (["host", "hostaddr", "port"].contains(&name) && has_comma(value)) {
            return Err(UrlError::SeveralServers);
        }
        let known = PARAMETERS.contains(&name) || (name.starts_with("options[") && name.ends_with(']'));
        if !known {
            // The name is shown only if it looks like one. Otherwise it may be part of a password with a question mark.
            let plain = name.len() <= 40 && name.bytes().all(|b| b.is_ascii_alphabetic() || b"-_".contains(&b));
            return Err(UrlError::Parameter(if plain && pair.contains('=') { name } else { "(not shown)" }.to_owned()));
        }
    }
    Ok(())
}

fn has_comma(value: &str) -> bool {
    value.contains(',') || value.to_ascii_lowercase().contains("%2c")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_user_without_a_host_is_read_as_libpq_reads_it() {
        for (url, expected) in [
            ("postgres://u:p@/db?host=/dir", "postgres:///db?user=u&password=p&host=/dir"),
            ("postgresql://u@/db?host=/dir", "postgresql:///db?user=u&host=/dir"),
            ("postgres://u:p@:5433/db", "postgres:///db?user=u&password=p&port=5433"),
            ("postgres://:5433/db", "postgres:///db?port=5433"),
            ("postgres://u:a%26b+c%2F&d@/db", "postgres:///db?user=u&password=a%26b%2Bc%2F%26d"),
            ("postgres://u@?host=/dir", "postgres:///?user=u&host=/dir"),
        ] {
            assert_eq!(for_driver(url).unwrap(), expected, "{url}");
        }
        for url in
            ["postgres:///db?user=u", "postgres://u:p@h:1/db?host=/dir", "postgres://h", "postgres://u:p@[::1]:5/db"]
        {
            assert_eq!(for_driver(url).unwrap(), url);
        }
        let options = options("postgres://u:a%26b+c@/db?host=/dir&port=5433").unwrap();
        let socket = options.get_socket().map(|path| path.display().to_string());
        assert_eq!((options.get_username(), options.get_port(), options.get_database()), ("u", 5433, Some("db")));
        assert!(socket.as_deref() == Some("/dir") || options.get_host() == "/dir", "{socket:?}");
    }

    #[test]
    fn several_servers_are_refused_with_the_alternative() {
        for url in [
            "postgres://u:p@h1,h2/db?target_session_attrs=read-write",
            "postgres://u:p@h1:5432,h2:5432/db",
            "postgres://u:p@h1/db?target_session_attrs=read-write",
            "postgres://u:p@h1/db?load_balance_hosts=random",
            "postgres://u:p@/db?host=h1,h2",
            "postgres:///db?host=h1%2Ch2",
            "postgres://u:p@%2Fa%2C%2Fb/db",
            "postgres://u:p@%2fa%2c%2fb/db",
            "postgres://u:p@/db?host=/a,/b",
            "postgres://u:p@h1/db?hostaddr=10.0.0.1,10.0.0.2",
            "postgres://u:p@h1/db?port=5432,5433",
        ] {
            let error = options(url).unwrap_err();
            assert!(matches!(error, UrlError::SeveralServers), "{url}: {error}");
            assert!(error.to_string().contains("virtual IP address"), "{error}");
        }
        // A comma in a password is none between hosts.
        options("postgres://u:a,b@h1/db").unwrap();
    }

    #[test]
    fn several_ports_of_the_environment_are_refused_where_they_would_be_ignored() {
        for url in ["postgres:///db", "postgres://u:5@h/db", "postgres://u:p@[::1]/db", "postgres://h/db?user=u"] {
            assert!(matches!(check_port(url, Some("5432,5433")), Err(UrlError::SeveralServers)), "{url}");
            check_port(url, Some("5433")).unwrap();
            check_port(url, None).unwrap();
        }
        for url in ["postgres://u:p@h:5433/db", "postgres://u:p@[::1]:5433/db", "postgres:///db?user=u&port=5433"] {
            check_port(url, Some("5432,5433")).unwrap();
        }
    }
}
