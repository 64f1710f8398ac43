//! The token in a request: found, and taken out of it.

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Request, Uri};
use keyward_domain::{Places, Presented};

/// What only Keyward may say, and what many upstreams read as the same.
const OURS: [&str; 2] = ["x-keyward-", "x_keyward_"];

pub(super) fn find<'a>(request: &'a Parts, places: &Places) -> Presented<'a> {
    let target = request.uri.path_and_query().map(|target| target.as_str().as_bytes());
    places.find(pairs(&request.headers), target.into_iter())
}

/// Takes out what carried the token, and what could be taken for Keyward's word.
pub(super) fn strip<B>(request: &mut Request<B>, places: &Places) {
    let carried: Vec<HeaderName> =
        places.to_remove(pairs(request.headers())).into_iter().filter_map(|name| name.parse().ok()).collect();
    let ours = |name: &&HeaderName| OURS.iter().any(|prefix| name.as_str().starts_with(prefix));
    let spoofed: Vec<_> = request.headers().keys().filter(ours).cloned().collect();
    for name in carried.iter().chain(&spoofed) {
        request.headers_mut().remove(name);
    }
    if let Some(uri) = places.query_parameter().and_then(|parameter| without(request.uri(), parameter)) {
        *request.uri_mut() = uri;
    }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

/// The same address without that parameter of its query; `None`: it has none.
fn without(uri: &Uri, parameter: &str) -> Option<Uri> {
    let query = uri.query()?;
    let is_it = |pair: &&str| pair.split('=').next() == Some(parameter);
    if !query.split('&').any(|pair| is_it(&pair)) {
        return None;
    }
    let rest: Vec<_> = query.split('&').filter(|pair| !is_it(pair)).collect();
    let rest = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{}{rest}", uri.path())).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn nothing_behind_the_layer_sees_the_token_or_a_spoofed_identity() {
        let places = Places::new("authorization", "x-api-key", Some("key")).unwrap();
        let mut request = Request::builder().uri("http://a/b?c=d&key=secret&e=f&key").body(()).unwrap();
        for (name, value) in [
            ("x-api-key", "secret"),
            ("authorization", "Bearer secret"),
            ("x-keyward-project", "9999"),
            ("x_keyward_key", "root"),
            ("accept", "text/html"),
        ] {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        strip(&mut request, &places);
        assert_eq!(request.uri(), "http://a/b?c=d&e=f");
        let left: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept"]);
        assert_eq!(without(&"/b?key=secret".parse().unwrap(), "key").unwrap(), "/b");
        assert_eq!(without(&"/b?keys=secret".parse().unwrap(), "key"), None);
    }

    #[test]
    fn the_services_own_authentication_is_left_alone() {
        let mut request = Request::builder().uri("/").header("authorization", "Basic dTpw").body(()).unwrap();
        strip(&mut request, &Places::default());
        assert!(request.headers().contains_key("authorization"));
    }
}
