use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use keyward_domain::{Error, Refusal};
use keyward_replica::Facts;

use crate::front::gate::{Decision, Gate, KEY_HEADER, PROJECT_HEADER};
use crate::front::route::{self, Route};

/// The real status of an answer whose own one nginx would not have understood.
const STATUS_HEADER: &str = "x-keyward-status";

/// What Envoy's HTTP ext_authz must take from the request before the upstream sees it. Other gateways skip it.
const REMOVE_HEADER: &str = "x-envoy-auth-headers-to-remove";

/// By these gateways tell of the client's request: nginx and HAProxy as deploy/ configures them; Caddy and Traefik.
const ORIGINAL_TARGETS: [&str; 2] = ["x-original-uri", "x-forwarded-uri"];

/// The HTTP hook: `/auth` and all below it, any method.
///
/// A route's settings are the gateway's operator's, and no part of a request that the client wrote may be taken for them.
/// They are parameters of the path's first segment, as `/auth;project=6666`. At that segment alone they may also be the
/// query, as `/auth?project=6666`: what asks for it has no path of the client's in it. Below it
/// (`/auth;project=6666/v1/items?page=2`, Envoy's way) path and query are the client's.
pub(crate) fn router(gate: Gate) -> Router {
    Router::new().fallback(hook).with_state(gate)
}

async fn hook(State(gate): State<Gate>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(asked) = Asked::parse(&uri) else { return not_found() };
    match route::read(asked.settings()) {
        Ok(route) => for_gateway(&route, answer(&gate, &route, &asked, &headers)),
        Err(error) => misconfigured(&error),
    }
}

/// The hook's address as it was asked for.
struct Asked<'a> {
    parameters: &'a str,
    query: &'a str,
    /// Path and query of the client, below the first segment.
    target: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// `None`: no address of the hook's.
    fn parse(uri: &'a Uri) -> Option<Self> {
        let below = uri.path().strip_prefix("/auth")?;
        let (parameters, client) = below.find('/').map_or((below, None), |at| (&below[..at], Some(at)));
        if !parameters.is_empty() && !parameters.starts_with(';') {
            return None;
        }
        let target = client.and_then(|at| uri.path_and_query()?.as_str().get("/auth".len() + at..));
        let query = if target.is_some() { "" } else { uri.query().unwrap_or_default() };
        Some(Self { parameters, query, target })
    }

    /// Settings are words, ids and booleans, so nothing in them needs percent-encoding.
    fn settings(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.parameters.split(';').chain(self.query.split('&'));
        pairs.filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

fn answer(gate: &Gate, route: &Route<'_>, asked: &Asked<'_>, headers: &HeaderMap) -> Response {
    let told = ORIGINAL_TARGETS.iter().flat_map(|name| headers.get_all(*name)).map(HeaderValue::as_bytes);
    let presented = gate.places().find(pairs(headers), asked.target.map(str::as_bytes).into_iter().chain(told));
    match gate.decide(&presented, &route.expectation) {
        Ok(decided) => match decided.decision {
            Decision::Allow(key) => allowed(&key, &gate.places().to_remove(pairs(headers))),
            Decision::Deny(refusal) => refused(&refusal),
        },
        Err(_) => refused(&Refusal::UNAVAILABLE),
    }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

fn allowed(key: &Facts, remove: &[&str]) -> Response {
    let mut response = Response::new(Body::empty());
    let (project, name) = (key.name.project.as_str(), key.name.key.as_str());
    let told = [(PROJECT_HEADER, project), (KEY_HEADER, name), (REMOVE_HEADER, &remove.join(","))];
    for (name, value) in told {
        // Ids and names of headers, which any header may hold.
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refused(refusal: &Refusal) -> Response {
    let mut response = problem(refusal.status, refusal.body.to_owned());
    if let Some(value) = refusal.www_authenticate {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(value));
    }
    response
}

/// nginx makes 500 of every status but 2xx, 401 and 403: it gets 403, and the real one in a header.
fn for_gateway(route: &Route<'_>, mut response: Response) -> Response {
    if route.nginx {
        let status = response.status();
        response.headers_mut().insert(STATUS_HEADER, HeaderValue::from(status.as_u16()));
        if !(status.is_success() || status == StatusCode::UNAUTHORIZED) {
            *response.status_mut() = StatusCode::FORBIDDEN;
        }
    }
    response
}

/// Settings that cannot be read cannot be the client's doing: 500, which tells the operator which. In every mode, for the
/// mode is among them.
fn misconfigured(error: &Error) -> Response {
    let body = serde_json::json!({
        "type": "about:blank", "title": "Internal Server Error", "status": 500,
        "detail": format!("the gateway's route to this hook is not configured right: {error}"),
    });
    problem(500, body.to_string())
}

fn not_found() -> Response {
    let body = r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"the hook is at /auth"}"#;
    problem(404, body.to_owned())
}

fn problem(status: u16, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn settings(uri: &str) -> String {
        let uri: Uri = uri.parse().unwrap();
        Asked::parse(&uri).unwrap().settings().map(|(name, value)| format!("{name}={value} ")).collect()
    }

    #[test]
    fn settings_come_from_the_first_segment_and_from_the_query_at_it_alone() {
        assert_eq!(settings("/auth"), "");
        assert_eq!(settings("/auth?project=6666&mode=nginx"), "project=6666 mode=nginx ");
        assert_eq!(settings("/auth;project=6666;mode=nginx"), "project=6666 mode=nginx ");
        assert_eq!(settings("/auth;project=6666/v1"), "project=6666 ");
        assert_eq!(settings("/auth;project=6666?project=7777"), "project=6666 project=7777 ");
    }

    #[test]
    fn nothing_that_a_client_writes_below_the_first_segment_is_a_setting() {
        for below in
            ["/", "/?project=7777", "/;project=7777", "/../auth;project=7777", "//auth;project=7777?mode=nginx"]
        {
            assert_eq!(settings(&format!("/auth;project=6666{below}")), "project=6666 ", "{below}");
            assert_eq!(settings(&format!("/auth{below}")), "", "{below}");
            let uri: Uri = format!("/auth{below}").parse().unwrap();
            assert_eq!(Asked::parse(&uri).unwrap().target, Some(below));
        }
    }

    #[test]
    fn other_addresses_are_not_the_hooks() {
        for other in ["/", "/authx", "/authx/y", "/auth%3bproject=6666", "/Auth", "//auth", "/x/auth"] {
            assert!(Asked::parse(&other.parse().unwrap()).is_none(), "{other}");
        }
    }
}
