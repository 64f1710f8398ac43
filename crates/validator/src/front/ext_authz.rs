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

use crate::front::gate::{Decided, Decision, Gate, KEY_HEADER, PROJECT_HEADER};
use crate::front::route;

/// Envoy's `Authorization`.
#[derive(Clone, Debug)]
pub(crate) struct ExtAuthzApi(pub(crate) Gate);

#[tonic::async_trait]
impl Authorization for ExtAuthzApi {
    /// What is wrong inside goes out as a gRPC error: only then do Envoy's `failure_mode_allow` and `status_on_error`
    /// apply. A CheckResponse of another status is a refusal to it, with 403.
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        match check(&self.0, request.get_ref()) {
            Ok(response) => Ok(Response::new(response)),
            Err(error) => Err(status::from_error(&error)),
        }
    }
}

fn check(gate: &Gate, request: &CheckRequest) -> Result<CheckResponse, Error> {
    let attributes = request.attributes.as_ref().ok_or_else(|| Error::field("attributes", "present"))?;
    let http = attributes.request.as_ref().and_then(|r| r.http.as_ref());
    let http = http.ok_or_else(|| Error::field("attributes.request.http", "present"))?;
    let settings = attributes.context_extensions.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let route = route::read(settings)?;
    let presented = gate.places().find(headers(http), std::iter::once(http.path.as_bytes()));
    let decided = gate.decide(&presented, &route.expectation)?;
    let (code, response) = match &decided.decision {
        Decision::Allow(key) => (Code::Ok, HttpResponse::OkResponse(allowed(gate, http, key))),
        Decision::Deny(refusal) => (denied_code(refusal), HttpResponse::DeniedResponse(denied(refusal))),
    };
    Ok(CheckResponse {
        status: Some(envoy::Status { code: code.into(), message: String::new() }),
        http_response: Some(response),
        dynamic_metadata: Some(metadata(&decided)),
    })
}

/// Every header, whether Envoy sends them as text or raw.
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
    // Not by `query_parameters_to_remove`: Envoy would sort the whole query and encode it anew, and signatures of it break.
    headers_to_set.extend(gate.places().without_token(&http.path).map(|target| header(":path", &target)));
    OkHttpResponse {
        headers: headers_to_set,
        headers_to_remove: gate.places().to_remove(headers(http)).into_iter().map(str::to_owned).collect(),
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

/// For Envoy's access log and later filters, which the client does not see: also why a token was refused, and whose it is.
fn metadata(decided: &Decided) -> Struct {
    let mut fields = BTreeMap::from([("verdict".to_owned(), text(decided.verdict))]);
    if let Some(key) = &decided.key {
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

/// Replaces what the client may have sent under that name.
fn header(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned(), raw_value: Vec::new() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}
