//! A database URL holds a password, which must not be sent to another machine unencrypted, nor to a server that has not proved
//! its identity.

use keyward_domain::is_local;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::open::url::{UrlError, is_postgres, options};

/// Checks that the driver may connect by a database URL: to this machine always, elsewhere only if it verifies the server
/// (`sslmode=verify-full`) or with `insecure_plaintext`. The check is on the options that the driver derives from the URL and
/// from the environment (`PGHOST`, `PGSSLMODE` and others). URLs of other databases pass.
///
/// # Errors
/// [`UrlError`].
pub fn check_exposure(url: &str, insecure_plaintext: bool) -> Result<(), UrlError> {
    if !is_postgres(url) {
        return Ok(());
    }
    let options = options(url)?;
    if insecure_plaintext || is_on_this_machine(&options) || matches!(options.get_ssl_mode(), PgSslMode::VerifyFull) {
        return Ok(());
    }
    Err(UrlError::Exposed(options.get_host().to_owned()))
}

/// Returns `true` if the driver connects to a Unix socket or to a loopback address.
fn is_on_this_machine(options: &PgConnectOptions) -> bool {
    // As the driver decides: a socket takes precedence over a host, and a host that begins with a slash is a socket directory.
    options.get_socket().is_some() || options.get_host().starts_with('/') || is_local(options.get_host())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Returns `true` if the environment of the test process does not change the driver's options. tests/it has tests with
    /// other environments.
    fn environment_is_plain() -> bool {
        std::env::vars_os().all(|(name, _)| !name.as_encoded_bytes().starts_with(b"PG"))
    }

    #[test]
    fn a_password_leaves_this_machine_only_to_a_verified_server_or_on_request() {
        if !environment_is_plain() {
            return;
        }
        let local = [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "127.1.2.3:5433",
            "[::1]",
            "%2Fvar%2Frun%2Fpostgresql",
            "%2ftmp:5432",
        ];
        for host in local {
            for mode in ["", "?sslmode=disable", "?sslmode=prefer", "?sslmode=verify-full"] {
                check_exposure(&format!("postgres://u:pw@{host}/db{mode}"), false).unwrap();
            }
        }
        let away = ["db", "10.0.0.1", "db.internal:5433", "[2001:db8::1]", "0.0.0.0", "localhost.db"];
        for host in away {
            for mode in ["", "disable", "allow", "prefer", "require", "verify-ca", "PREFER"] {
                for name in ["sslmode", "ssl-mode"] {
                    for scheme in ["postgres", "postgresql"] {
                        let mode = if mode.is_empty() { String::new() } else { format!("?{name}={mode}") };
                        let url = format!("{scheme}://u:pw@{host}/db{mode}");
                        assert!(matches!(check_exposure(&url, false), Err(UrlError::Exposed(_))), "{url}");
                        check_exposure(&url, true).unwrap();
                    }
                }
            }
            for verified in ["sslmode=verify-full", "ssl-mode=verify-full", "sslmode=VERIFY-FULL"] {
                check_exposure(&format!("postgres://u:pw@{host}/db?{verified}"), false).unwrap();
            }
        }
    }

    #[test]
    fn the_options_that_the_driver_derives_from_the_query_decide() {
        if !environment_is_plain() {
            return;
        }
        for (url, exposed) in [
            ("postgres:///db?user=u&password=pw", false),
            ("postgres://u:pw@/db?host=/run/postgresql", false),
            ("postgres://u:pw@/db?host=db", true),
            ("postgres://u:pw@localhost/db?host=db", true),
            ("postgres://u:pw@localhost/db?hostaddr=10.0.0.1", true),
            ("postgres:///db?user=u&password=pw&host=db", true),
            ("postgres://u:pw@db/db?host=localhost", false),
            ("postgres://u:pw@db/db?hostaddr=127.0.0.1", false),
            ("postgres://u:pw@db/db?host=/var/run/postgresql", false),
            ("postgres://u:pw@localhost/db?host=localhost&host=db", true),
            ("postgres://u:pw@db/db?sslmode=verify-full&sslmode=prefer", true),
            ("postgres://u:pw@db/db?sslmode=prefer&sslmode=verify-full", false),
            ("postgres://u:pw@db/db?%73slmode=verify-full", true),
            ("postgres://u:pw@db/db#?sslmode=verify-full", true),
        ] {
            let refused = check_exposure(url, false).is_err();
            assert_eq!(refused, exposed, "{url}");
        }
    }

    #[test]
    fn no_error_repeats_a_password_or_a_value() {
        for url in [
            "postgres://u:hunter2@db/db",
            "postgres://u:hunter2@db:x/db",
            "postgres://u:hunter2@db:99999/db",
            "postgres://u:hun?ter=hunter2@db/db",
            "postgres://u:hunter2@db/db?pasword=hunter2",
            "postgres://u:hunter2@db/db?hunter2",
            "postgres://u:hunter2@db/db?sslmode=prefer&passfile=hunter2",
            "postgres://u:hunter2@[db/db",
            "postgres://u:hunter2@h1,h2/db",
            "postgres://u:hunter2@/db?host=h1",
        ] {
            let error = check_exposure(url, false).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}: {error}");
        }
    }
}
