//! Finds the token of a request, and removes it.

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Request, Uri};
use keyward_domain::{Presented, TokenSources};

/// Prefix of the header names that are reserved for Keyward, folded.
const RESERVED: &str = "x_keyward_";

pub(super) fn find<'a>(request: &'a Parts, sources: &TokenSources) -> Presented<'a> {
    let target = request.uri.path_and_query().map(|target| target.as_str().as_bytes());
    sources.find(pairs(&request.headers), target.into_iter())
}

/// Removes the token, and headers of the client that handlers could mistake for Keyward's.
pub(super) fn strip<B>(request: &mut Request<B>, sources: &TokenSources) {
    let carried: Vec<HeaderName> =
        sources.to_remove(pairs(request.headers())).into_iter().filter_map(|name| name.parse().ok()).collect();
    // In every spelling: many handlers read x.keyward.project and x_api_key as x-keyward-project and x-api-key.
    let carriers: Vec<_> = carried.iter().map(|name| folded(name.as_str())).collect();
    let is_spoofed = |name: &&HeaderName| {
        let folded = folded(name.as_str());
        folded.starts_with(RESERVED) || carriers.contains(&folded)
    };
    let spoofed: Vec<_> = request.headers().keys().filter(is_spoofed).cloned().collect();
    for name in carried.iter().chain(&spoofed) {
        request.headers_mut().remove(name);
    }
    if let Some(uri) = without_token(request.uri(), sources) {
        *request.uri_mut() = uri;
    }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

/// Returns the URI without the token in its query, or `None` if the query has no token.
fn without_token(uri: &Uri, sources: &TokenSources) -> Option<Uri> {
    let target = sources.without_token(uri.path_and_query()?.as_str())?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

/// Folds a header name as CGI, PHP and WSGI do: every character except letters and digits becomes `_`.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_token_and_spoofed_identity_headers_are_removed() {
        let sources = TokenSources::new("authorization", "x-api-key", Some("key")).unwrap();
        let mut request = Request::builder().uri("http://a/b?c=d&key=secret&e=f&key").body(()).unwrap();
        for (name, value) in [
            ("x-api-key", "secret"),
            ("authorization", "Bearer secret"),
            ("x-keyward-project", "9999"),
            ("x_keyward_key", "root"),
            ("x.keyward~key", "root"),
            ("x_api_key", "secret"),
            ("accept", "text/html"),
        ] {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        strip(&mut request, &sources);
        assert_eq!(request.uri(), "http://a/b?c=d&e=f");
        let left: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept"]);
        assert_eq!(without_token(&"/b?key=secret".parse().unwrap(), &sources).unwrap(), "/b");
        assert_eq!(without_token(&"/b?keys=secret".parse().unwrap(), &sources), None);
    }

    #[test]
    fn an_authorization_of_another_scheme_is_kept() {
        let mut request = Request::builder().uri("/").header("authorization", "Basic dTpw").body(()).unwrap();
        strip(&mut request, &TokenSources::default());
        assert!(request.headers().contains_key("authorization"));
    }
}
