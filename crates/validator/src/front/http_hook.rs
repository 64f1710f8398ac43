use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use keyward_domain::{Error, Refusal};
use keyward_replica::Facts;

use crate::front::gate::{Decision, Gate, KEY_HEADER, PROJECT_HEADER};
use crate::front::route::{self, Route};

/// Response header with the real status of an answer to nginx, which understands 2xx, 401 and 403 only.
const STATUS_HEADER: &str = "x-keyward-status";

/// Response header that makes Envoy's HTTP ext_authz remove headers from the request. Other gateways ignore it.
const REMOVE_HEADER: &str = "x-envoy-auth-headers-to-remove";

/// Request headers with the path and query of the client's request: nginx and HAProxy as configured in `deploy/`; Caddy and
/// Traefik.
const ORIGINAL_TARGETS: [&str; 2] = ["x-original-uri", "x-forwarded-uri"];

/// Returns the routes of the HTTP hook: `/auth` and everything below it, with any method.
///
/// The settings of a route come from the gateway's operator. No part of the path or query that the client wrote may be taken
/// for a setting. Settings are parameters of the first path segment, such as `/auth;project=6666`. If the path ends there, they
/// may also be the query, such as `/auth?project=6666`, because that URL contains nothing of the client's. Below the first
/// segment (`/auth;project=6666/v1/items?page=2`, as Envoy sends it) path and query are the client's.
pub(crate) fn router(gate: Gate) -> Router {
    Router::new().fallback(hook).with_state(gate)
}

async fn hook(State(gate): State<Gate>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(target) = HookTarget::parse(&uri) else { return not_found() };
    match route::read(target.settings()) {
        Ok(route) => for_gateway(&route, answer(&gate, &route, &target, &headers)),
        Err(error) => misconfigured(&error),
    }
}

/// The request target of a call to the hook, taken apart.
struct HookTarget<'a> {
    /// Parameters of the first segment, with their leading `;`.
    parameters: &'a str,
    /// The operator's query. Empty if the target has a part of the client's.
    query: &'a str,
    /// The client's path and query, below the first segment.
    client: Option<&'a str>,
}

impl<'a> HookTarget<'a> {
    /// Returns `None` if the target is outside `/auth`.
    fn parse(uri: &'a Uri) -> Option<Self> {
        let below = uri.path().strip_prefix("/auth")?;
        let (parameters, slash) = below.find('/').map_or((below, None), |at| (&below[..at], Some(at)));
        if !parameters.is_empty() && !parameters.starts_with(';') {
            return None;
        }
        let client = slash.and_then(|at| uri.path_and_query()?.as_str().get("/auth".len() + at..));
        let query = if client.is_some() { "" } else { uri.query().unwrap_or_default() };
        Some(Self { parameters, query, client })
    }

    /// Returns the settings as pairs. They are not percent-decoded: all valid values are words, ids and booleans.
    fn settings(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.parameters.split(';').chain(self.query.split('&'));
        pairs.filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

fn answer(gate: &Gate, route: &Route<'_>, target: &HookTarget<'_>, headers: &HeaderMap) -> Response {
    let forwarded = ORIGINAL_TARGETS.iter().flat_map(|name| headers.get_all(*name)).map(HeaderValue::as_bytes);
    let presented =
        gate.token_sources().find(pairs(headers), target.client.map(str::as_bytes).into_iter().chain(forwarded));
    match gate.judge(&presented, &route.expectation) {
        Ok(judgement) => match judgement.decision {
            Decision::Allow(key) => allowed(&key, &gate.token_sources().to_remove(pairs(headers))),
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
    let pairs = [(PROJECT_HEADER, project), (KEY_HEADER, name), (REMOVE_HEADER, &remove.join(","))];
    for (name, value) in pairs {
        // Always parses: the values are ids and header names.
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

/// Adapts the answer to nginx, which turns every status except 2xx, 401 and 403 into 500. It gets 403 instead, and the real
/// status in a header.
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

/// Answers 500 with the invalid setting, because only the gateway's operator can have caused it. The same answer goes to nginx:
/// the mode is one of the settings.
fn misconfigured(error: &Error) -> Response {
    let body = serde_json::json!({
        "type": "about:blank", "title": "Internal Server Error", "status": 500,
        "detail": format!("the gateway's route to this hook is misconfigured: {error}"),
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
        HookTarget::parse(&uri).unwrap().settings().map(|(name, value)| format!("{name}={value} ")).collect()
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
    fn no_text_below_the_first_segment_is_a_setting() {
        for below in
            ["/", "/?project=7777", "/;project=7777", "/../auth;project=7777", "//auth;project=7777?mode=nginx"]
        {
            assert_eq!(settings(&format!("/auth;project=6666{below}")), "project=6666 ", "{below}");
            assert_eq!(settings(&format!("/auth{below}")), "", "{below}");
            let uri: Uri = format!("/auth{below}").parse().unwrap();
            assert_eq!(HookTarget::parse(&uri).unwrap().client, Some(below));
        }
    }

    #[test]
    fn targets_outside_the_hook_are_rejected() {
        for other in ["/", "/authx", "/authx/y", "/auth%3bproject=6666", "/Auth", "//auth", "/x/auth"] {
            assert!(HookTarget::parse(&other.parse().unwrap()).is_none(), "{other}");
        }
    }
}
