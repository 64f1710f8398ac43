//! An error as the operator who started a command reads it.

use keyward_domain::Error;

/// The error with its causes, each once, on one line. A failure of the database comes with the driver's own words: they are
/// kept from callers of the API, and the operator of the process needs them.
pub fn report(error: &anyhow::Error) -> String {
    let mut report = String::new();
    for cause in error.chain() {
        let detail = cause.downcast_ref::<Error>().and_then(Error::internal_detail).map(str::to_owned);
        for text in [Some(cause.to_string()), detail].into_iter().flatten() {
            // Some errors end with the text of their cause.
            if !report.contains(&text) {
                report.push_str(if report.is_empty() { "" } else { ": " });
                report.push_str(&text);
            }
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_reported_once_and_what_the_driver_said_is_among_them() {
        let driver = || Error::store_unavailable("relation missing");
        let error = anyhow::Error::new(driver()).context(format!("cannot start: {}", driver())).context("init");
        let expected =
            "init: cannot start: the database did not answer; retry with the same request_id: relation missing";
        assert_eq!(report(&error), expected);
        let plain = anyhow::anyhow!("no such file").context("keyring");
        assert_eq!(report(&plain), "keyring: no such file");
    }
}
