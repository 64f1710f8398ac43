//! Where a client's token is found in its request.

use std::collections::BTreeSet;

/// The header that carries a bare token.
const API_KEY: &str = "x-api-key";
const AUTHORIZATION: &str = "authorization";

/// What a request presents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Presented<'a> {
    /// No credential of ours.
    Nothing,
    /// One, perhaps said twice. It need not be well-formed.
    One(&'a str),
    /// Two that differ, or one that hides another: never "take the first".
    Ambiguous,
}

/// Finds the token in `authorization: Bearer …` (RFC 6750 §2.1) or `x-api-key`. Names must be lower case, as HTTP/2
/// and Envoy give them. An `authorization` of another scheme belongs to the upstream and is left alone.
pub(crate) fn present<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Presented<'a> {
    let mut found = BTreeSet::new();
    for (name, value) in headers {
        match candidate(name, value) {
            Ok(None) => {}
            Ok(Some(token)) => {
                found.insert(token);
            }
            Err(Unclear) => return Presented::Ambiguous,
        }
    }
    match (found.pop_first(), found.pop_first()) {
        (None, _) => Presented::Nothing,
        (Some(token), None) => Presented::One(token),
        (Some(_), Some(_)) => Presented::Ambiguous,
    }
}

/// Which headers a request's upstream must not see, given those that it has.
pub(crate) fn to_remove<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<&'static str> {
    let mut remove = vec![API_KEY];
    let ours = |(name, value): (&str, &[u8])| name == AUTHORIZATION && !matches!(candidate(name, value), Ok(None));
    if headers.into_iter().any(ours) {
        remove.push(AUTHORIZATION);
    }
    remove
}

struct Unclear;

/// The credential in one header, if it is one of ours.
fn candidate<'a>(name: &str, value: &'a [u8]) -> Result<Option<&'a str>, Unclear> {
    if name != API_KEY && name != AUTHORIZATION {
        return Ok(None);
    }
    let value = std::str::from_utf8(value).map_err(|_| Unclear)?.trim();
    if name == API_KEY {
        return Ok(Some(value));
    }
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ if hides_bearer(value) => Err(Unclear),
        _ => Ok(None),
    }
}

/// Gateways join duplicate headers with a comma: "Basic x,Bearer y" hides one of ours.
fn hides_bearer(value: &str) -> bool {
    let is_bearer = |part: &str| part.trim_start().get(..7).is_some_and(|head| head.eq_ignore_ascii_case("bearer "));
    value.split(',').any(is_bearer) || value.eq_ignore_ascii_case("bearer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presented(headers: &[(&'static str, &'static str)]) -> Presented<'static> {
        present(headers.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[test]
    fn one_credential_is_found_in_either_header() {
        assert_eq!(presented(&[("authorization", "Bearer a")]), Presented::One("a"));
        assert_eq!(presented(&[("authorization", "bEARER  a ")]), Presented::One("a"));
        assert_eq!(presented(&[("x-api-key", "a")]), Presented::One("a"));
        assert_eq!(presented(&[("x-api-key", "a"), ("authorization", "Bearer a")]), Presented::One("a"));
        assert_eq!(presented(&[("accept", "a")]), Presented::Nothing);
        for others in ["Basic dTpw", "Basic AABeaReRAA==", "Digest username=\"forbearer\", realm=\"bearer\""] {
            assert_eq!(presented(&[("authorization", others)]), Presented::Nothing, "{others}");
        }
    }

    #[test]
    fn two_that_differ_are_never_resolved() {
        assert_eq!(presented(&[("x-api-key", "a"), ("authorization", "Bearer b")]), Presented::Ambiguous);
        assert_eq!(presented(&[("x-api-key", "a"), ("x-api-key", "b")]), Presented::Ambiguous);
        assert_eq!(presented(&[("authorization", "Basic x,Bearer b")]), Presented::Ambiguous);
        assert_eq!(presented(&[("authorization", "Basic x, bearer b")]), Presented::Ambiguous);
        assert_eq!(presented(&[("authorization", "Bearer")]), Presented::Ambiguous);
        // Joined by a gateway: no token has a comma, so this is malformed later.
        assert_eq!(presented(&[("x-api-key", "a,b")]), Presented::One("a,b"));
        assert_eq!(present([("x-api-key", &b"\xff"[..])].into_iter()), Presented::Ambiguous);
    }

    #[test]
    fn what_carried_a_credential_of_ours_does_not_go_upstream() {
        let removed = |headers: &[(&'static str, &'static str)]| {
            to_remove(headers.iter().map(|(name, value)| (*name, value.as_bytes())))
        };
        assert_eq!(removed(&[("x-api-key", "a"), ("authorization", "Basic dTpw")]), [API_KEY]);
        assert_eq!(removed(&[("authorization", "Bearer a")]), [API_KEY, AUTHORIZATION]);
    }
}
