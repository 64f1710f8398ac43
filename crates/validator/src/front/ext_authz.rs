use keyward_domain::Error;
use keyward_proto::envoy::attribute_context::HttpRequest;
use keyward_proto::envoy::authorization_server::Authorization;
use keyward_proto::envoy::check_response::HttpResponse;
use keyward_proto::envoy::header_value_option::HeaderAppendAction;
use keyward_proto::envoy::{
    self, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption, HttpStatus, OkHttpResponse,
};
use keyward_replica::Facts;
use keyward_runtime::status;
use tonic::{Code, Request, Response, Status};

use crate::front::answer::{KEY_HEADER, PROJECT_HEADER, Refusal, decide};
use crate::front::{credential, route};
use crate::validate::Validator;

/// Envoy's `Authorization`.
#[derive(Clone, Debug)]
pub(crate) struct ExtAuthzApi(pub(crate) Validator);

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

fn check(validator: &Validator, request: &CheckRequest) -> Result<CheckResponse, Error> {
    let attributes = request.attributes.as_ref().ok_or_else(|| Error::field("attributes", "present"))?;
    let http = attributes.request.as_ref().and_then(|r| r.http.as_ref());
    let http = http.ok_or_else(|| Error::field("attributes.request.http", "present"))?;
    let settings = attributes.context_extensions.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let expectation = route::expectation(settings)?;
    let presented = credential::present(headers(http));
    Ok(match decide(validator, &presented, &expectation)? {
        Ok(key) => allowed(&key, credential::to_remove(headers(http))),
        Err(refusal) => denied(&refusal),
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

fn allowed(key: &Facts, remove: Vec<&'static str>) -> CheckResponse {
    let ok = OkHttpResponse {
        headers: vec![header(PROJECT_HEADER, key.name.project.as_str()), header(KEY_HEADER, key.name.key.as_str())],
        headers_to_remove: remove.into_iter().map(str::to_owned).collect(),
        ..Default::default()
    };
    CheckResponse {
        status: Some(envoy::Status { code: Code::Ok.into(), message: String::new() }),
        http_response: Some(HttpResponse::OkResponse(ok)),
        dynamic_metadata: None,
    }
}

fn denied(refusal: &Refusal) -> CheckResponse {
    let mut headers = vec![header("content-type", "application/problem+json"), header("cache-control", "no-store")];
    headers.extend(refusal.www_authenticate.map(|value| header("www-authenticate", value)));
    let code = if refusal.status == 403 { Code::PermissionDenied } else { Code::Unauthenticated };
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: refusal.status.into() }),
        headers,
        body: refusal.body.to_owned(),
    };
    CheckResponse {
        status: Some(envoy::Status { code: code.into(), message: String::new() }),
        http_response: Some(HttpResponse::DeniedResponse(denied)),
        dynamic_metadata: None,
    }
}

/// Replaces what the client may have sent under that name.
fn header(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned(), raw_value: Vec::new() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}
