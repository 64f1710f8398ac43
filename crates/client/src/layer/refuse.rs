use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use keyward_domain::Refusal;
use tonic::{Code, Status};

/// The buffer type of response bodies.
pub(super) type Bytes = tonic::codegen::Bytes;

/// Renders a refusal: as gRPC if the content type of the request is gRPC, else as a problem.
pub(super) fn refuse(refusal: &Refusal, request: &HeaderMap) -> Response<Full<Bytes>> {
    let kind = request.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if kind.starts_with(b"application/grpc") { grpc(refusal) } else { problem(refusal) }
}

fn grpc(refusal: &Refusal) -> Response<Full<Bytes>> {
    let code = match refusal.status {
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        _ => Code::Unavailable,
    };
    // Without ErrorInfo: a refused client learns no more than the message, as through a gateway.
    Status::new(code, refusal.message).into_http()
}

fn problem(refusal: &Refusal) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(refusal.body));
    *response.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(value) = refusal.www_authenticate {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(value));
    }
    response
}
