//! Finds the token of a gateway's client in its request. A request with two different tokens is ambiguous: taking the first
//! would let a client show one token to Keyward and another to the upstream.

use std::collections::BTreeSet;

/// The headers and the query parameter in which requests carry tokens. Header names compare without regard to case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenSources {
    bearer_header: String,
    key_header: String,
    query_parameter: Option<String>,
}

/// `authorization: Bearer …` and `x-api-key: …`; no query parameter.
impl Default for TokenSources {
    fn default() -> Self {
        Self {
            bearer_header: Self::BEARER_HEADER.to_owned(),
            key_header: Self::KEY_HEADER.to_owned(),
            query_parameter: None,
        }
    }
}

/// The tokens that a request presents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Presented<'a> {
    /// No token.
    Nothing,
    /// One token, which may be repeated. It need not be well-formed.
    One(&'a str),
    /// Two different tokens, or a header that may hide one.
    Ambiguous,
}

/// The content of one header or query parameter.
enum Found<'a> {
    Nothing,
    /// A bearer header of another scheme, such as `Basic`.
    AnotherScheme,
    BearerToken(&'a str),
    BareToken(&'a str),
    /// Text that may hide a token.
    Unclear,
}

impl TokenSources {
    /// Default header of a bearer token (RFC 6750 §2.1).
    pub const BEARER_HEADER: &'static str = "authorization";
    /// Default header of a bare token.
    pub const KEY_HEADER: &'static str = "x-api-key";

    /// Takes tokens from `bearer_header` after the word `Bearer`, from `key_header` as they are, and from `query_parameter` of
    /// the request's query. Logs and browser histories keep queries, so the parameter should be `None` where possible.
    ///
    /// # Errors
    /// A message with the name and the rule that it breaks.
    pub fn new(bearer_header: &str, key_header: &str, query_parameter: Option<&str>) -> Result<Self, String> {
        let sources = Self {
            bearer_header: header_name("bearer header", bearer_header)?,
            key_header: header_name("key header", key_header)?,
            query_parameter: query_parameter.map(parameter_name).transpose()?,
        };
        if sources.bearer_header == sources.key_header {
            return Err(format!("{key_header}: the bearer header and the key header must differ"));
        }
        Ok(sources)
    }

    /// Returns a request's target (`/path?query`) without the parameter that carries a token, or `None` if there is nothing to
    /// remove. All other parameters keep their order and spelling, because some queries are signed.
    pub fn without_token(&self, target: &str) -> Option<String> {
        let parameter = self.query_parameter.as_deref()?;
        let (path, query) = target.split_once('?')?;
        let carries_token =
            |pair: &str| pair.strip_prefix(parameter).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
        let others: Vec<_> = query.split('&').filter(|pair| !carries_token(pair)).collect();
        if others.len() == query.split('&').count() {
            return None;
        }
        Some(if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) })
    }

    /// Finds the token in a request's headers, and in the query of its targets (`/path?query`) if a query parameter is
    /// configured. An `authorization` header of another scheme belongs to the upstream and is ignored.
    pub fn find<'a>(
        &self,
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
        targets: impl Iterator<Item = &'a [u8]>,
    ) -> Presented<'a> {
        let in_headers = headers.map(|(name, value)| self.in_header(name, value));
        let in_queries = targets.flat_map(|target| self.in_query(target));
        let (mut tokens, mut bearer, mut beside) = (BTreeSet::new(), false, false);
        for found in in_headers.chain(in_queries) {
            match found {
                Found::Nothing => {}
                Found::AnotherScheme => beside = true,
                Found::BearerToken(token) | Found::BareToken(token) => {
                    tokens.insert(token);
                    bearer |= matches!(found, Found::BearerToken(_));
                }
                Found::Unclear => return Presented::Ambiguous,
            }
        }
        match (tokens.pop_first(), tokens.pop_first()) {
            (None, _) => Presented::Nothing,
            // One bearer header with a token, and one of another scheme.
            (Some(_), None) if beside && bearer => Presented::Ambiguous,
            (Some(token), None) => Presented::One(token),
            (Some(_), Some(_)) => Presented::Ambiguous,
        }
    }

    /// The names of the headers to remove before the request goes to the upstream: always the key header, and the bearer header
    /// if it carries a token.
    pub fn to_remove<'a>(&self, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<&str> {
        let mut remove = vec![self.key_header.as_str()];
        let mut bearer = headers.filter(|(name, _)| name.eq_ignore_ascii_case(&self.bearer_header));
        if bearer.any(|(name, value)| !matches!(self.in_header(name, value), Found::AnotherScheme)) {
            remove.push(&self.bearer_header);
        }
        remove
    }

    fn in_header<'a>(&self, name: &str, value: &'a [u8]) -> Found<'a> {
        let is_key = name.eq_ignore_ascii_case(&self.key_header);
        if !is_key && !name.eq_ignore_ascii_case(&self.bearer_header) {
            return Found::Nothing;
        }
        let Ok(value) = std::str::from_utf8(value).map(str::trim) else { return Found::Unclear };
        if is_key {
            return Found::BareToken(value);
        }
        match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Found::BearerToken(token.trim()),
            _ if hides_bearer(value) => Found::Unclear,
            _ => Found::AnotherScheme,
        }
    }

    /// The tokens in a target's query. Nothing is percent-decoded: tokens need no encoding.
    fn in_query<'a>(&self, target: &'a [u8]) -> Vec<Found<'a>> {
        let Some(parameter) = &self.query_parameter else { return Vec::new() };
        let Some(at) = target.iter().position(|byte| *byte == b'?') else { return Vec::new() };
        let query = target.get(at + 1..).unwrap_or_default();
        let token = |pair: &'a [u8]| match pair.strip_prefix(parameter.as_bytes()) {
            Some([]) => Some(Found::BareToken("")),
            Some([b'=', value @ ..]) => Some(std::str::from_utf8(value).map_or(Found::Unclear, Found::BareToken)),
            _ => None,
        };
        query.split(|byte| *byte == b'&').filter_map(token).collect()
    }
}

/// Returns `true` for a value such as "Basic x,Bearer y": some gateways join duplicate headers with a comma.
fn hides_bearer(value: &str) -> bool {
    value.split(',').filter_map(|part| part.split_whitespace().next()).any(|word| word.eq_ignore_ascii_case("bearer"))
}

fn header_name(what: &str, name: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(format!("{name}: the {what} must be 1 to 64 letters, digits and hyphens"));
    }
    let name = name.to_ascii_lowercase();
    if name.starts_with("x-keyward-") {
        return Err(format!(
            "{name}: the {what} must not begin with x-keyward-, which gateways take from every request"
        ));
    }
    Ok(name)
}

fn parameter_name(name: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(format!("{name}: the query parameter must be 1 to 64 letters, digits, hyphens and underscores"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn bytes<'a>(headers: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        headers.iter().map(|(name, value)| (*name, value.as_bytes()))
    }

    fn presented(headers: &'static [(&'static str, &'static str)]) -> Presented<'static> {
        TokenSources::default().find(bytes(headers), std::iter::once(&b"/a?key=q"[..]))
    }

    #[test]
    fn a_token_is_found_in_either_header() {
        assert_eq!(presented(&[("authorization", "Bearer a")]), Presented::One("a"));
        assert_eq!(presented(&[("Authorization", "bEARER  a ")]), Presented::One("a"));
        assert_eq!(presented(&[("x-api-key", "a")]), Presented::One("a"));
        assert_eq!(presented(&[("x-api-key", "a"), ("authorization", "Bearer a")]), Presented::One("a"));
        assert_eq!(presented(&[("accept", "a")]), Presented::Nothing);
        for others in ["Basic dTpw", "Basic AABeaReRAA==", "Digest username=\"forbearer\", realm=\"bearer\""] {
            let headers = [("authorization", others)];
            assert_eq!(
                TokenSources::default().find(bytes(&headers), std::iter::empty()),
                Presented::Nothing,
                "{others}"
            );
        }
    }

    #[test]
    fn two_different_tokens_are_ambiguous() {
        assert_eq!(presented(&[("x-api-key", "a"), ("authorization", "Bearer b")]), Presented::Ambiguous);
        assert_eq!(presented(&[("x-api-key", "a"), ("x-api-key", "b")]), Presented::Ambiguous);
        assert_eq!(presented(&[("x-api-key", "a"), ("X-API-Key", "b")]), Presented::Ambiguous);
        assert_eq!(presented(&[("authorization", "Basic x,Bearer b")]), Presented::Ambiguous);
        assert_eq!(presented(&[("authorization", "Basic x, bearer b")]), Presented::Ambiguous);
        assert_eq!(presented(&[("authorization", "Bearer")]), Presented::Ambiguous);
        assert_eq!(presented(&[("authorization", "Basic x,Bearer")]), Presented::Ambiguous);
        // Duplicate headers that were not joined.
        assert_eq!(presented(&[("authorization", "Basic x"), ("authorization", "Bearer b")]), Presented::Ambiguous);
        // Joined by a gateway. No token has a comma, so the verdict will be malformed.
        assert_eq!(presented(&[("x-api-key", "a,b")]), Presented::One("a,b"));
        let not_text = [("x-api-key", &b"\xff"[..])];
        assert_eq!(TokenSources::default().find(not_text.into_iter(), std::iter::empty()), Presented::Ambiguous);
    }

    #[test]
    fn a_query_parameter_is_read_only_if_it_is_configured() {
        let sources = TokenSources::new("authorization", "x-api-key", Some("key")).unwrap();
        let find = |headers: &'static [(&'static str, &'static str)], target: &'static str| {
            sources.find(bytes(headers), std::iter::once(target.as_bytes()))
        };
        assert_eq!(find(&[], "/a?b=c&key=t"), Presented::One("t"));
        assert_eq!(find(&[("x-api-key", "t")], "/a?key=t"), Presented::One("t"));
        assert_eq!(find(&[("x-api-key", "u")], "/a?key=t"), Presented::Ambiguous);
        assert_eq!(find(&[], "/a?key=t&key=u"), Presented::Ambiguous);
        assert_eq!(find(&[], "/a?key"), Presented::One(""));
        for none in ["/a", "/key=t", "/a?keys=t", "/a?akey=t", "/a?"] {
            assert_eq!(find(&[], none), Presented::Nothing, "{none}");
        }
        assert_eq!(presented(&[]), Presented::Nothing, "off by default");
    }

    #[test]
    fn removing_the_token_from_a_query_keeps_the_other_parameters_as_they_are() {
        let sources = TokenSources::new("authorization", "x-api-key", Some("key")).unwrap();
        for (target, wanted) in [
            ("/a?key=t", "/a"),
            ("/a?key", "/a"),
            ("/a?b=%2F+c&key=t&a=1&&d", "/a?b=%2F+c&a=1&&d"),
            ("/a?key=t&z&a?=%7e", "/a?z&a?=%7e"),
            ("/a?z=1&key=t&key=t", "/a?z=1"),
        ] {
            assert_eq!(sources.without_token(target).as_deref(), Some(wanted), "{target}");
        }
        for untouched in ["/a", "/a?", "/a?keys=t&akey=t", "/key=t", "/a?b=key"] {
            assert_eq!(sources.without_token(untouched), None, "{untouched}");
        }
        assert_eq!(TokenSources::default().without_token("/a?key=t"), None, "off by default");
    }

    #[test]
    fn names_of_headers_and_parameters_are_checked() {
        let sources = TokenSources::new("X-Token", "X-Key", None).unwrap();
        let find = |headers: &'static [(&'static str, &'static str)]| sources.find(bytes(headers), std::iter::empty());
        assert_eq!(
            find(&[("x-token", "Bearer a"), ("authorization", "Bearer b"), ("x-api-key", "c")]),
            Presented::One("a")
        );
        assert_eq!(find(&[("x-key", "a")]), Presented::One("a"));
        for (bearer, key, query) in [
            ("", "x-key", None),
            ("a b", "x-key", None),
            ("x-key", "X-Key", None),
            ("authorization", "x-keyward-project", None),
            ("authorization", "x-key", Some("")),
            ("authorization", "x-key", Some("a=b")),
        ] {
            assert!(TokenSources::new(bearer, key, query).is_err(), "{bearer} {key} {query:?}");
        }
    }

    #[test]
    fn headers_that_carry_a_token_are_removed() {
        let sources = TokenSources::default();
        let removed = |headers: &[(&str, &str)]| sources.to_remove(bytes(headers)).join(" ");
        assert_eq!(removed(&[("x-api-key", "a"), ("authorization", "Basic dTpw")]), "x-api-key");
        assert_eq!(removed(&[("Authorization", "Bearer a")]), "x-api-key authorization");
    }
}
