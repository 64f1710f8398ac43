//! The token in a request: found, and taken out of it.

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Request, Uri};
use keyward_domain::{Presented, TokenSources};

/// How the names begin that only Keyward may use, folded.
const OURS: &str = "x_keyward_";

pub(super) fn find<'a>(request: &'a Parts, places: &TokenSources) -> Presented<'a> {
    let target = request.uri.path_and_query().map(|target| target.as_str().as_bytes());
    places.find(pairs(&request.headers), target.into_iter())
}

/// Takes out what carried the token, and what could be taken for Keyward's word.
pub(super) fn strip<B>(request: &mut Request<B>, places: &TokenSources) {
    let carried: Vec<HeaderName> =
        places.to_remove(pairs(request.headers())).into_iter().filter_map(|name| name.parse().ok()).collect();
    // Every spelling: x.keyward.project and x_api_key are x-keyward-project and x-api-key to many handlers.
    let carriers: Vec<_> = carried.iter().map(|name| folded(name.as_str())).collect();
    let ours = |name: &&HeaderName| {
        let folded = folded(name.as_str());
        folded.starts_with(OURS) || carriers.contains(&folded)
    };
    let spoofed: Vec<_> = request.headers().keys().filter(ours).cloned().collect();
    for name in carried.iter().chain(&spoofed) {
        request.headers_mut().remove(name);
    }
    if let Some(uri) = without_token(request.uri(), places) {
        *request.uri_mut() = uri;
    }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

/// The address without the token in its query; `None`: there is none.
fn without_token(uri: &Uri, places: &TokenSources) -> Option<Uri> {
    let target = places.without_token(uri.path_and_query()?.as_str())?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

/// A header's name as CGI, PHP and WSGI know it: every character that is neither letter nor digit is `_`.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn nothing_behind_the_layer_sees_the_token_or_a_spoofed_identity() {
        let places = TokenSources::new("authorization", "x-api-key", Some("key")).unwrap();
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
        strip(&mut request, &places);
        assert_eq!(request.uri(), "http://a/b?c=d&e=f");
        let left: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept"]);
        assert_eq!(without_token(&"/b?key=secret".parse().unwrap(), &places).unwrap(), "/b");
        assert_eq!(without_token(&"/b?keys=secret".parse().unwrap(), &places), None);
    }

    #[test]
    fn the_services_own_authentication_is_left_alone() {
        let mut request = Request::builder().uri("/").header("authorization", "Basic dTpw").body(()).unwrap();
        strip(&mut request, &TokenSources::default());
        assert!(request.headers().contains_key("authorization"));
    }
}
