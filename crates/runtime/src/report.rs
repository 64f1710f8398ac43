//! Errors as the operator of a process reads them.

use keyward_domain::Error;

/// Renders an error with its causes, each once, on one line. Includes the driver text of a database error, which callers of
/// the API never see and the operator of the process needs.
pub fn report(error: &anyhow::Error) -> String {
    let mut report = String::new();
    for cause in error.chain() {
        let detail = cause.downcast_ref::<Error>().and_then(Error::internal_detail).map(str::to_owned);
        for text in [Some(cause.to_string()), detail].into_iter().flatten() {
            // Some errors already contain the text of their cause.
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
    fn each_cause_is_reported_once_and_driver_text_is_included() {
        let driver = || Error::store_unavailable("relation missing");
        let error = anyhow::Error::new(driver()).context(format!("cannot start: {}", driver())).context("init");
        let expected =
            "init: cannot start: the database did not answer; retry with the same request_id: relation missing";
        assert_eq!(report(&error), expected);
        let plain = anyhow::anyhow!("no such file").context("keyring");
        assert_eq!(report(&plain), "keyring: no such file");
    }
}
