use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::any;
use keyward_domain::Error;
use keyward_replica::Facts;

use crate::front::answer::{KEY_HEADER, PROJECT_HEADER, Refusal, UNAVAILABLE, decide};
use crate::front::{credential, route};
use crate::validate::Validator;

/// The HTTP hook: `/auth`, any method. The query holds the route's settings (`?project=6666`): the gateway's operator
/// wrote it, not the client, whose own query is not part of the hook's address.
pub(crate) fn router(validator: Validator) -> Router {
    Router::new().route("/auth", any(auth)).with_state(validator)
}

async fn auth(State(validator): State<Validator>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let presented = credential::present(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    let decided = settings(query.as_deref().unwrap_or_default())
        .and_then(|expectation| decide(&validator, &presented, &expectation));
    match decided {
        Ok(Ok(key)) => allowed(&key),
        Ok(Err(refusal)) => refused(&refusal),
        Err(error) => no_decision(&error),
    }
}

/// Settings are ids and booleans, so nothing in them needs percent-encoding.
fn settings(query: &str) -> Result<keyward_domain::Expectation<'_>, Error> {
    route::expectation(query.split('&').filter(|pair| !pair.is_empty()).map(|p| p.split_once('=').unwrap_or((p, ""))))
}

fn allowed(key: &Facts) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    for (name, value) in [(PROJECT_HEADER, key.name.project.as_str()), (KEY_HEADER, key.name.key.as_str())] {
        // Ids are letters, digits and underscores, which any header may hold.
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

fn refused(refusal: &Refusal) -> Response {
    let mut response = problem(refusal.status, refusal.body.to_owned());
    if let Some(value) = refusal.www_authenticate {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(value));
    }
    response
}

/// Without a lease 503; with settings that cannot be read 500, which tells the operator which, for that cannot be the
/// client's doing.
fn no_decision(error: &Error) -> Response {
    if error.violations().is_empty() {
        return refused(&UNAVAILABLE);
    }
    let body = serde_json::json!({
        "type": "about:blank", "title": "Internal Server Error", "status": 500,
        "detail": format!("the gateway's route to this hook is not configured right: {error}"),
    });
    problem(500, body.to_string())
}

fn problem(status: u16, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
