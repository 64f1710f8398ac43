use std::collections::BTreeMap;

use keyward_domain::{Error, Refusal};
use keyward_proto::envoy::attribute_context::HttpRequest;
use keyward_proto::envoy::authorization_server::Authorization;
use keyward_proto::envoy::check_response::HttpResponse;
use keyward_proto::envoy::header_value_option::HeaderAppendAction;
use keyward_proto::envoy::{
    self, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption, HttpStatus, OkHttpResponse,
};
use keyward_replica::Facts;
use keyward_runtime::status;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tonic::{Code, Request, Response, Status};

use crate::front::gate::{Decision, Gate, Judgement, KEY_HEADER, PROJECT_HEADER};
use crate::front::route;

/// The service `Authorization` of Envoy's ext_authz.
#[derive(Clone, Debug)]
pub(crate) struct ExtAuthzApi(pub(crate) Gate);

#[tonic::async_trait]
impl Authorization for ExtAuthzApi {
    /// Failures are returned as gRPC errors, so that Envoy's `failure_mode_allow` and `status_on_error` apply. Envoy would take
    /// a CheckResponse with an error status as a refusal of the client, with 403.
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        status::respond(check(&self.0, request.get_ref()))
    }
}

fn check(gate: &Gate, request: &CheckRequest) -> Result<CheckResponse, Error> {
    let attributes = request.attributes.as_ref().ok_or_else(|| Error::field("attributes", "present"))?;
    let http = attributes.request.as_ref().and_then(|r| r.http.as_ref());
    let http = http.ok_or_else(|| Error::field("attributes.request.http", "present"))?;
    let settings = attributes.context_extensions.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let route = route::read(settings)?;
    let presented = gate.token_sources().find(headers(http), std::iter::once(http.path.as_bytes()));
    let judgement = gate.judge(&presented, &route.expectation)?;
    let (code, response) = match &judgement.decision {
        Decision::Allow(key) => (Code::Ok, HttpResponse::OkResponse(allowed(gate, http, key))),
        Decision::Deny(refusal) => (denied_code(refusal), HttpResponse::DeniedResponse(denied(refusal))),
    };
    Ok(CheckResponse {
        status: Some(envoy::Status { code: code.into(), message: String::new() }),
        http_response: Some(response),
        dynamic_metadata: Some(metadata(&judgement)),
    })
}

/// Returns all headers. Envoy sends them as text or raw, depending on its configuration.
fn headers(http: &HttpRequest) -> impl Iterator<Item = (&str, &[u8])> {
    let text = http.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let raw = http.header_map.iter().flat_map(|map| &map.headers).map(|header| {
        let value = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
        (header.key.as_str(), value)
    });
    text.chain(raw)
}

fn allowed(gate: &Gate, http: &HttpRequest, key: &Facts) -> OkHttpResponse {
    let mut headers_to_set =
        vec![header(PROJECT_HEADER, key.name.project.as_str()), header(KEY_HEADER, key.name.key.as_str())];
    // `query_parameters_to_remove` would make Envoy sort and re-encode the whole query, which breaks signatures over it.
    headers_to_set.extend(gate.token_sources().without_token(&http.path).map(|target| header(":path", &target)));
    OkHttpResponse {
        headers: headers_to_set,
        headers_to_remove: gate.token_sources().to_remove(headers(http)).into_iter().map(str::to_owned).collect(),
        ..Default::default()
    }
}

const fn denied_code(refusal: &Refusal) -> Code {
    if refusal.status == 403 { Code::PermissionDenied } else { Code::Unauthenticated }
}

fn denied(refusal: &Refusal) -> DeniedHttpResponse {
    let mut headers = vec![header("content-type", "application/problem+json"), header("cache-control", "no-store")];
    headers.extend(refusal.www_authenticate.map(|value| header("www-authenticate", value)));
    DeniedHttpResponse {
        status: Some(HttpStatus { code: refusal.status.into() }),
        headers,
        body: refusal.body.to_owned(),
    }
}

/// Dynamic metadata for Envoy's access log and later filters: the verdict, and the key of the token. The client does not see
/// it.
fn metadata(judgement: &Judgement) -> Struct {
    let mut fields = BTreeMap::from([("verdict".to_owned(), text(judgement.verdict))]);
    if let Some(key) = &judgement.key {
        fields.extend([
            ("project".to_owned(), text(key.name.project.as_str())),
            ("key".to_owned(), text(key.name.key.as_str())),
            ("key_uid".to_owned(), text(&key.uid.to_string())),
            ("platform".to_owned(), text(key.platform.as_str())),
        ]);
    }
    Struct { fields }
}

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

/// Returns a header that replaces any header of that name from the client.
fn header(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned(), raw_value: Vec::new() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}
